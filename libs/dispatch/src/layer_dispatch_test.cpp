#include "conclave/dispatch/layer_dispatch.hpp"

#include <gmock/gmock.h>

#include <map>
#include <random>
#include <set>

#include "testing_table.hpp"

namespace conclave::dispatch {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using testing_table::table_of;
using CallId = LayerDispatch::CallId;
using TimePoint = LayerDispatch::TimePoint;

DispatchOptions without_hedges() {
  DispatchOptions options;
  options.hedges_per_call = 0.0;
  return options;
}

// Two workers, both with experts 0 to 3, long known to answer within 100 us.
struct LayerDispatchTest : testing::Test {
  explicit LayerDispatchTest(const DispatchOptions& options = without_hedges())
      : core(4, options, 1) {
    apply(2, {{0, 1}, {0, 1}, {0, 1}, {0, 1}});
    now += seconds(2);  // slow starts are over
  }

  void apply(std::size_t workers, const std::vector<std::vector<std::uint16_t>>& pools) {
    core.apply(table_of(workers, pools, ++epoch));
    for (std::size_t i = 0; i < workers; ++i) core.link(i, true, now);
  }
  void begin(const std::vector<std::uint32_t>& wanted, std::size_t pairs = 1) {
    std::vector<ExpertWork> work;
    for (const std::uint32_t expert : wanted) work.push_back({expert, pairs});
    core.begin(0, work);
  }
  /// Sends what is planned; the calls by worker.
  std::map<std::size_t, CallId> send() {
    std::map<std::size_t, CallId> calls;
    for (const Order& order : core.plan(now)) {
      calls[order.worker] = next_call;
      experts[next_call] = order.experts;
      core.sent(order, next_call++, now);
    }
    return calls;
  }
  std::vector<std::uint32_t> answer(CallId call) {
    std::vector<std::uint32_t> counted;
    for (const AnswerPart& part : core.answered(call, {}, now)) {
      if (part.counts) counted.push_back(part.expert);
    }
    return counted;
  }
  /// Calls of all four experts that are answered after 100 us.
  void practise(int layers = 100) {
    for (int i = 0; i < layers; ++i) {
      begin({0, 1, 2, 3});
      const auto calls = send();
      now += microseconds(100);
      for (const auto& [worker, call] : calls) answer(call);
      ASSERT_TRUE(core.done());
    }
  }

  TimePoint now = TimePoint(std::chrono::hours(1));
  LayerDispatch core;
  std::uint64_t epoch = 0;
  CallId next_call = 1;
  std::map<CallId, std::vector<std::uint32_t>> experts;
};

// ---- the plain course ----

TEST_F(LayerDispatchTest, SpreadsALayerAndIsDoneWhenAllIsAnswered) {
  begin({0, 1, 2, 3});
  const auto calls = send();
  ASSERT_THAT(calls, SizeIs(2));
  EXPECT_THAT(experts[calls.at(0)], SizeIs(2));
  EXPECT_FALSE(core.done());
  answer(calls.at(0));
  EXPECT_THAT(core.plan(now), IsEmpty());
  EXPECT_THAT(answer(calls.at(1)), SizeIs(2));
  EXPECT_TRUE(core.done());
}

TEST_F(LayerDispatchTest, MicroBatchesHaveLayersOfTheirOwnUnderWay) {
  begin({0, 1, 2, 3});
  const auto first = send();
  const std::vector<ExpertWork> work{{1, 5}, {2, 1}};
  core.begin(0, work, 1);
  const auto second = send();
  for (const auto& [worker, call] : first) EXPECT_EQ(core.batch_of(call), 0u);
  for (const auto& [worker, call] : second) EXPECT_EQ(core.batch_of(call), 1u);

  for (const auto& [worker, call] : second) answer(call);
  EXPECT_TRUE(core.done(1));
  EXPECT_FALSE(core.done(0)) << "though the same experts were answered";

  // The next layer of one leaves the other's as it is.
  core.begin(0, work, 1);
  send();
  core.abandon(1);
  EXPECT_THAT(answer(first.at(0)), SizeIs(2));
  EXPECT_THAT(answer(first.at(1)), SizeIs(2));
  EXPECT_TRUE(core.done(0));
}

TEST_F(LayerDispatchTest, AWorkerThatFailsConcernsAllMicroBatches) {
  begin({0, 1});
  const auto first = send();
  const std::vector<ExpertWork> work{{2, 1}, {3, 1}};
  core.begin(0, work, 1);
  const auto second = send();
  ASSERT_THAT(first, SizeIs(2));
  ASSERT_THAT(second, SizeIs(2));

  core.link(0, false, now);
  core.failed(first.at(0), false, now);
  core.failed(second.at(0), false, now);
  std::map<std::size_t, std::size_t> again;  // batch -> worker
  for (const Order& order : core.plan(now)) {
    again[order.batch] = order.worker;
    core.sent(order, next_call++, now);
  }
  EXPECT_EQ(again, (std::map<std::size_t, std::size_t>{{0, 1}, {1, 1}}));
}

TEST_F(LayerDispatchTest, AStallIsOneOfItsMicroBatch) {
  apply(2, {{0}, {1}, {0}, {1}});
  begin({0});
  send();
  core.link(1, false, now);
  const std::vector<ExpertWork> work{{1, 1}};
  core.begin(0, work, 1);
  EXPECT_THAT(core.plan(now), IsEmpty());
  EXPECT_FALSE(core.is_stalled(0));
  EXPECT_TRUE(core.is_stalled(1));
  EXPECT_THAT(core.waiting(1), UnorderedElementsAre(1));
  EXPECT_THAT(core.waiting(0), IsEmpty());
}

TEST_F(LayerDispatchTest, ExpertsOfOneWorkerGoFirstAndTheOthersAround) {
  apply(2, {{0}, {0}, {0, 1}, {0, 1}});
  begin({0, 1, 2, 3});
  const auto calls = send();
  EXPECT_THAT(experts[calls.at(0)], ElementsAre(0, 1));
  EXPECT_THAT(experts[calls.at(1)], ElementsAre(2, 3));
}

TEST_F(LayerDispatchTest, CountsItsShareOfWhatWorkersComputed) {
  begin({0, 1, 2, 3}, 3);
  const auto calls = send();
  // Six pairs of twelve that were computed together.
  (void)core.answered(calls.at(0), {.compute_us = 1000, .batch_pairs = 12}, now);
  EXPECT_DOUBLE_EQ(core.stats().device_us, 500);
  (void)core.answered(calls.at(1), {.compute_us = 300, .batch_pairs = 6}, now);
  EXPECT_DOUBLE_EQ(core.stats().device_us, 800);

  begin({0, 1, 2, 3});
  const auto late = send();
  core.abandon();
  (void)core.answered(late.at(0), {.compute_us = 1000, .batch_pairs = 2}, now);
  EXPECT_DOUBLE_EQ(core.stats().device_us, 800);  // nobody had anything of it
}

TEST_F(LayerDispatchTest, ASlowWorkerGetsLess) {
  for (int i = 0; i < 50; ++i) {
    begin({0, 1, 2, 3});
    const auto calls = send();
    now += microseconds(100);
    if (calls.contains(0)) answer(calls.at(0));
    now += milliseconds(1);
    if (calls.contains(1)) answer(calls.at(1));
    ASSERT_TRUE(core.done());
  }
  begin({0, 1, 2, 3});
  const auto calls = send();
  EXPECT_GE(experts[calls.at(0)].size(), 3u);
}

TEST_F(LayerDispatchTest, ANewcomerStartsSlowly) {
  practise();
  apply(3, {{0, 2}, {0, 2}, {0, 2}, {0, 2}});
  begin({0, 1, 2, 3});
  const auto calls = send();
  EXPECT_THAT(experts[calls.at(0)], SizeIs(4));
  EXPECT_FALSE(calls.contains(2));
  answer(calls.at(0));
  now += seconds(1);
  begin({0, 1, 2, 3});
  EXPECT_THAT(experts[send().at(2)], SizeIs(2));
}

TEST_F(LayerDispatchTest, WithoutATableEverythingWaits) {
  LayerDispatch fresh(4, without_hedges(), 1);
  const ExpertWork work{0, 1};
  fresh.begin(0, {&work, 1});
  EXPECT_THAT(fresh.plan(now), IsEmpty());
  EXPECT_TRUE(fresh.is_stalled());
  EXPECT_THAT(fresh.waiting(), ElementsAre(0));
}

TEST_F(LayerDispatchTest, ARefusalPausesTheWorkerAndAsksTheOther) {
  begin({0});
  const auto first = send();
  const std::size_t worker = first.begin()->first;
  core.refused(first.begin()->second, now);
  const auto second = send();
  EXPECT_THAT(second, SizeIs(1));
  EXPECT_FALSE(second.contains(worker));
  core.refused(second.begin()->second, now);
  EXPECT_THAT(send(), IsEmpty());
  EXPECT_TRUE(core.is_stalled());
  EXPECT_EQ(core.next(now), now + milliseconds(20));
  now += milliseconds(20);
  EXPECT_THAT(send(), SizeIs(1));
  EXPECT_EQ(core.stats().resends, 2u);
}

TEST_F(LayerDispatchTest, ALinkThatTakesNoCallIsPassedOver) {
  begin({0, 1});
  for (const Order& order : core.plan(now)) core.not_sent(order, now);
  EXPECT_TRUE(core.is_stalled());
  EXPECT_THAT(core.waiting(), UnorderedElementsAre(0, 1));
  now += milliseconds(20);
  EXPECT_FALSE(send().empty());
}

TEST_F(LayerDispatchTest, WhatALinkDoesNotTakeGoesToAnotherAtOnce) {
  begin({0});
  const Order order = core.plan(now)[0];
  const std::size_t full = order.worker;
  core.not_sent(order, now);
  EXPECT_EQ(core.next(now), now);
  const auto calls = send();
  EXPECT_THAT(calls, SizeIs(1));
  EXPECT_FALSE(calls.contains(full));
}

// ---- workers that go ----

TEST_F(LayerDispatchTest, ADroppedLinkIsResentAtOnce) {
  begin({0, 1, 2, 3});
  const auto calls = send();
  core.link(0, false, now);
  core.failed(calls.at(0), false, now);
  const auto again = send();
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(experts[again.at(1)], experts[calls.at(0)]);
  answer(calls.at(1));
  answer(again.at(1));
  EXPECT_TRUE(core.done());
}

TEST_F(LayerDispatchTest, TheNextDeadlineIsWhenToLookAgain) {
  practise();
  begin({0, 1, 2, 3});
  send();
  EXPECT_EQ(core.next(now), now + milliseconds(10));  // three times 100 us, but no less than that
}

// Many streams on few processors: three times what calls take then is what a reader sees.
TEST_F(LayerDispatchTest, WhereCallsTakeLongADeadlineIsNotThreeTimesThat) {
  for (int i = 0; i < 100; ++i) {
    begin({0, 1, 2, 3});
    const auto calls = send();
    now += milliseconds(40);
    answer(calls.at(0));
    answer(calls.at(1));
  }
  begin({0, 1, 2, 3});
  send();
  EXPECT_GT(core.next(now), now + milliseconds(60));
  EXPECT_LT(core.next(now), now + milliseconds(80));  // a quarter, which the book may say too much
}

TEST_F(LayerDispatchTest, AMissedDeadlineIsResentAndTheLateAnswerNeverUsed) {
  practise();
  begin({0, 1, 2, 3});
  const auto calls = send();
  now += microseconds(100);
  answer(calls.at(1));
  now = core.next(now);
  const auto again = send();
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(experts[again.at(1)], experts[calls.at(0)]);
  EXPECT_EQ(core.health(0).standing(now), Standing::kSuspect);

  EXPECT_THAT(answer(calls.at(0)), IsEmpty());  // too late, though nobody else has answered yet
  EXPECT_FALSE(core.done());
  EXPECT_EQ(core.stats().late, 1u);
  EXPECT_EQ(core.health(0).standing(now), Standing::kWell);  // but it lives
  EXPECT_THAT(answer(again.at(1)), SizeIs(2));
  EXPECT_TRUE(core.done());
}

TEST_F(LayerDispatchTest, ASuspectIsNotAskedWhileThereIsAnother) {
  practise();
  begin({0, 1, 2, 3});
  auto calls = send();
  answer(calls.at(1));
  now = core.next(now);
  answer(send().at(1));
  ASSERT_TRUE(core.done());
  for (int layer = 0; layer < 20; ++layer) {
    begin({0, 1, 2, 3});
    calls = send();
    EXPECT_THAT(calls, SizeIs(1));
    now += microseconds(100);
    answer(calls.at(1));
    EXPECT_TRUE(core.done());
  }
  EXPECT_EQ(core.stats().suspects, 1u);  // one deadline in all
}

TEST_F(LayerDispatchTest, WithoutAnotherTheCallIsWaitedForAndItsAnswerCounts) {
  apply(2, {{0}, {0}, {0}, {0}});
  practise();
  begin({0});
  const auto calls = send();
  for (int i = 0; i < 5; ++i) {
    now = core.next(now);
    EXPECT_THAT(send(), IsEmpty());
    EXPECT_FALSE(core.is_stalled());
  }
  EXPECT_THAT(answer(calls.at(0)), ElementsAre(0));
  EXPECT_TRUE(core.done());
}

TEST_F(LayerDispatchTest, OnlyWhatOthersHaveGoesElsewhere) {
  apply(2, {{0}, {0, 1}, {1}, {1}});
  practise();
  begin({0, 1, 2, 3}, 1);
  const auto calls = send();
  ASSERT_THAT(experts[calls.at(0)], ElementsAre(0, 1));
  answer(calls.at(1));
  now = core.next(now);
  const auto again = send();
  EXPECT_THAT(experts[again.at(1)], ElementsAre(1));
  EXPECT_THAT(answer(calls.at(0)), ElementsAre(0));  // which it kept
  answer(again.at(1));
  EXPECT_TRUE(core.done());
}

TEST_F(LayerDispatchTest, DeadlinesDoubleWhenEverythingIsSlow) {
  practise();
  begin({0});
  TimePoint before = now;
  auto waits = std::vector<DispatchOptions::Duration>();
  for (int i = 0; i < 3; ++i) {
    for (const auto& [worker, call] : send()) {
      // Whoever was asked before turns out to live, so that it is asked again.
      if (call > 1) answer(call - 1);
    }
    now = core.next(now);
    waits.push_back(now - before);
    before = now;
  }
  EXPECT_GE(waits[1], 2 * waits[0]);
  EXPECT_GE(waits[2], 2 * waits[1]);
}

TEST_F(LayerDispatchTest, ALateAnswerOfAnEarlierLayerOnlyTeaches) {
  practise();
  begin({0, 1, 2, 3});
  const auto calls = send();
  answer(calls.at(1));
  now = core.next(now);
  answer(send().at(1));
  begin({0, 1});
  EXPECT_THAT(answer(calls.at(0)), IsEmpty());
  EXPECT_EQ(core.health(0).standing(now), Standing::kWell);
  EXPECT_EQ(core.health(0).outstanding(), 0u);
}

TEST_F(LayerDispatchTest, AFrozenWorkerDoesNotSpoilItsOwnDeadlines) {
  practise(300);
  begin({0, 1, 2, 3});
  const auto calls = send();
  answer(calls.at(1));
  now = core.next(now);
  answer(send().at(1));
  now += seconds(10);
  answer(calls.at(0));  // it was stopped for ten seconds
  now += seconds(2);
  begin({0, 1, 2, 3});
  send();
  EXPECT_LE(core.next(now) - now, milliseconds(60));
}

TEST_F(LayerDispatchTest, SilenceForTheLongestTimeEndsTheCallAndAsksAgain) {
  apply(1, {{0}, {0}, {0}, {0}});
  begin({0});
  const auto calls = send();
  now += seconds(10);
  core.failed(calls.at(0), true, now);
  EXPECT_TRUE(core.is_stalled());
  now += milliseconds(20);
  EXPECT_THAT(send(), SizeIs(1));
}

// ---- hedges ----

struct HedgeTest : LayerDispatchTest {
  HedgeTest() : LayerDispatchTest(options()) {}
  static DispatchOptions options() {
    DispatchOptions options;
    options.hedges_per_call = 0.02;
    return options;
  }
};

TEST_F(HedgeTest, WhoIsSlowerThanMostIsAskedTwiceAndTheFirstAnswerCounts) {
  practise();
  begin({0, 1, 2, 3});
  const auto calls = send();
  answer(calls.at(1));
  now = core.next(now);
  const auto hedge = send();
  ASSERT_THAT(hedge, SizeIs(1));
  EXPECT_EQ(experts[hedge.at(1)], experts[calls.at(0)]);
  EXPECT_EQ(core.stats().hedges, 1u);
  EXPECT_EQ(core.health(0).standing(now), Standing::kWell);

  EXPECT_THAT(answer(calls.at(0)), SizeIs(2));  // it is not late
  EXPECT_TRUE(core.done());
  EXPECT_THAT(answer(hedge.at(1)), IsEmpty());
  EXPECT_EQ(core.stats().late, 1u);
}

TEST_F(HedgeTest, AHedgeThatIsFirstCounts) {
  practise();
  begin({0, 1, 2, 3});
  const auto calls = send();
  answer(calls.at(1));
  now = core.next(now);
  const auto hedge = send();
  EXPECT_THAT(answer(hedge.at(1)), SizeIs(2));
  EXPECT_TRUE(core.done());
  EXPECT_THAT(answer(calls.at(0)), IsEmpty());
}

TEST_F(HedgeTest, AFrozenWorkerIsFoundOutThoughHedgesAreFaster) {
  practise();
  begin({0, 1, 2, 3});
  const auto calls = send();
  answer(calls.at(1));
  now = core.next(now);
  answer(send().at(1));
  ASSERT_TRUE(core.done());
  now += milliseconds(10);
  begin({0, 1, 2, 3});
  EXPECT_FALSE(send().contains(0));
  EXPECT_EQ(core.health(0).standing(now), Standing::kSuspect);
}

TEST_F(HedgeTest, AHedgeWhoseFirstCallFailsIsNotSentAgain) {
  practise();
  begin({0, 1, 2, 3});
  const auto calls = send();
  answer(calls.at(1));
  now = core.next(now);
  const auto hedge = send();
  core.link(0, false, now);
  core.failed(calls.at(0), false, now);
  EXPECT_THAT(send(), IsEmpty());
  answer(hedge.at(1));
  EXPECT_TRUE(core.done());
}

TEST_F(HedgeTest, WhatIsAnsweredIsNotAskedForAgain) {
  practise();
  apply(3, {{0}, {0}, {2}, {2}});
  begin({0, 2});
  const auto calls = send();
  apply(3, {{0, 1}, {0}, {2, 1}, {2}});
  // At one moment worker 0 is slow and worker 2 refuses: worker 1 is asked for both in one call.
  now = core.next(now);
  core.refused(calls.at(2), now);
  const auto both = send();
  ASSERT_THAT(experts[both.at(1)], ElementsAre(0, 2));
  EXPECT_THAT(answer(calls.at(0)), ElementsAre(0));
  for (auto again = send(); core.stats().resends < 3; again = send()) {
    for (const auto& [worker, call] : again) EXPECT_THAT(experts[call], ElementsAre(2));
    now = core.next(now);
  }
}

TEST_F(HedgeTest, HedgesStayWithinTheirShare) {
  practise(1000);  // two calls each
  const auto calls_before = next_call;
  const auto hedges_before = core.stats().hedges;
  for (int layer = 0; layer < 1000; ++layer) {
    begin({0, 1, 2, 3});
    const auto calls = send();
    now += microseconds(500);  // late enough for a hedge, every time
    for (const auto& [worker, call] : send()) answer(call);
    for (const auto& [worker, call] : calls) answer(call);
    ASSERT_TRUE(core.done());
  }
  const auto hedges = core.stats().hedges - hedges_before;
  const auto calls = next_call - calls_before - hedges;
  EXPECT_GT(hedges, 0u);
  EXPECT_LE(static_cast<double>(hedges), 0.02 * static_cast<double>(calls) + 10.0);
}

TEST_F(LayerDispatchTest, WithoutABudgetNobodyIsAskedTwice) {
  practise();
  begin({0, 1, 2, 3});
  send();
  now += milliseconds(5);
  EXPECT_THAT(send(), IsEmpty());
}

// ---- tables ----

TEST_F(LayerDispatchTest, WorkersThatStayKeepTheirCallsUnderAnyIndex) {
  begin({0, 1, 2, 3});
  const auto calls = send();
  // w1 is the only one of the new table, under index 0.
  auto table = *table_of(2, {{0}, {0}, {0}, {0}}, 9);
  table.workers.erase(table.workers.begin());
  const auto former = core.apply(std::make_shared<const wire::RoutingTable>(table));
  EXPECT_THAT(former, ElementsAre(std::optional<std::size_t>(1)));
  EXPECT_EQ(core.worker_of(calls.at(0)), std::nullopt);
  EXPECT_EQ(core.worker_of(calls.at(1)), 0u);
  EXPECT_THAT(core.waiting(), SizeIs(2));
  const auto again = send();
  EXPECT_EQ(experts[again.at(0)], experts[calls.at(0)]);
  EXPECT_THAT(answer(calls.at(0)), IsEmpty());
  answer(calls.at(1));
  answer(again.at(0));
  EXPECT_TRUE(core.done());
}

TEST_F(LayerDispatchTest, ARestartedWorkerIsAnother) {
  auto table = *core.table();
  table.epoch = 9;
  table.workers[0].incarnation = 2;
  const auto former = core.apply(std::make_shared<const wire::RoutingTable>(table));
  EXPECT_EQ(former[0], std::nullopt);
  EXPECT_EQ(former[1], 1u);
  EXPECT_FALSE(core.health(0).is_up());
  EXPECT_TRUE(core.is_linked(0, 0));
  core.link(1, false, now);
  EXPECT_FALSE(core.is_linked(0, 0));
}

TEST_F(LayerDispatchTest, GivingUpLeavesNothingBehind) {
  begin({0, 1, 2, 3});
  const auto calls = send();
  core.abandon();
  EXPECT_TRUE(core.done());
  EXPECT_THAT(core.plan(now), IsEmpty());
  for (const auto& [worker, call] : calls) EXPECT_THAT(answer(call), IsEmpty());
  begin({0});
  EXPECT_THAT(answer(send().begin()->second), ElementsAre(0));
  EXPECT_TRUE(core.done());
}

// ---- anything at all ----

// Random workers, tables, losses, refusals and delays: every layer ends, each expert counts exactly
// once, and no worker is left with work that nobody knows of.
TEST(LayerDispatchFuzzTest, EveryExpertIsAnsweredOnceWhateverHappens) {
  constexpr std::uint32_t kExperts = 12;
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
    LayerDispatch core(kExperts, DispatchOptions{.hedges_per_call = 0.5}, seed);
    TimePoint now = TimePoint(std::chrono::hours(1));
    std::uint64_t epoch = 0;
    const auto retable = [&] {
      const std::uint32_t workers = 1 + below(6);
      std::vector<std::vector<std::uint16_t>> pools(kExperts);
      for (auto& pool : pools) {
        std::set<std::uint16_t> of;
        for (std::uint32_t i = 0; i <= below(4); ++i) {
          of.insert(static_cast<std::uint16_t>(below(workers)));
        }
        pool.assign(of.begin(), of.end());
      }
      const auto former = core.apply(table_of(workers, pools, ++epoch));
      for (std::size_t i = 0; i < former.size(); ++i) core.link(i, true, now);
    };
    retable();

    struct Flying {
      CallId id;
      TimePoint due;  // max: never
      std::vector<std::uint32_t> experts;
    };
    std::vector<Flying> flying;
    CallId next_call = 1;
    for (int layer = 0; layer < 20; ++layer) {
      std::vector<ExpertWork> work;
      for (std::uint32_t e = 0; e < kExperts; ++e) {
        if (below(2) == 0) work.push_back({e, 1 + below(5)});
      }
      core.begin(0, work);
      std::map<std::uint32_t, int> counted;
      int turns = 0;
      while (!core.done() && ++turns < 2000) {
        for (const Order& order : core.plan(now)) {
          ASSERT_FALSE(order.experts.empty());
          ASSERT_EQ(std::ranges::adjacent_find(order.experts), order.experts.end());
          for (const std::uint32_t expert : order.experts) {
            ASSERT_EQ(counted[expert], 0) << "is asked for again: " << expert;
          }
          if (below(20) == 0) {
            core.not_sent(order, now);
            continue;
          }
          const bool lost = below(30) == 0;
          flying.push_back({next_call, lost ? TimePoint::max() : now + microseconds(below(30'000)),
                            order.experts});
          core.sent(order, next_call++, now);
        }
        TimePoint then = core.next(now);
        for (const Flying& call : flying) then = std::min(then, call.due);
        now = std::max(now, then);
        std::erase_if(flying, [&](const Flying& call) {
          if (call.due > now) return false;
          const std::uint32_t what = below(20);
          if (what == 0) {
            core.refused(call.id, now);
          } else if (what == 1) {
            core.failed(call.id, false, now);
          } else {
            for (const AnswerPart& part : core.answered(call.id, {}, now)) {
              counted[part.expert] += part.counts ? 1 : 0;
            }
          }
          return true;
        });
        if (below(50) == 0) retable();
        if (below(40) == 0) {
          // Calls that were lost are ended, as a link that comes anew does.
          std::erase_if(flying, [&](const Flying& call) {
            if (call.due != TimePoint::max()) return false;
            core.failed(call.id, true, now);
            return true;
          });
        }
      }
      ASSERT_TRUE(core.done());
      for (const ExpertWork& one : work) ASSERT_EQ(counted[one.expert], 1) << one.expert;
    }
    for (const Flying& call : flying) core.failed(call.id, false, now);
    for (std::size_t i = 0; i < core.table()->workers.size(); ++i) {
      ASSERT_EQ(core.health(i).outstanding(), 0u);
    }
  }
}

}  // namespace
}  // namespace conclave::dispatch
