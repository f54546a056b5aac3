// Workers that stop, slow down or go while RemoteExperts asks them, in simulated time.
#include <gmock/gmock.h>

#include "testing_bench.hpp"

namespace conclave::dispatch {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing_bench::SlowNetwork;
using wire::DegradedPolicy;

constexpr const char* kModel = "qwen3moe-q8_0";

struct FailoverTest : testing::Test {
  static DispatchSettings settings() {
    DispatchSettings settings;
    settings.hedge_percent = 0.0;
    return settings;
  }
  explicit FailoverTest(const DispatchSettings& settings = FailoverTest::settings())
      : bench(kModel, settings, true) {}

  /// As long as it takes until deadlines are what they will be.
  void practise() {
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(bench.run());
    bench.network().pass(seconds(2));
  }
  /// How long one layer takes, with the bits that it must have.
  SlowNetwork::Duration timed() {
    const auto before = network().now();
    bench.expect_same_bits();
    return network().now() - before;
  }
  SlowNetwork& network() { return bench.network(); }

  testing_bench::Bench bench;
};

// ---- with replicas ----

TEST_F(FailoverTest, AFrozenWorkerCostsOneDeadlineAndNoBit) {
  bench.spread(4, 2);
  practise();
  network().freeze("a");
  EXPECT_LE(timed(), milliseconds(20));
  EXPECT_EQ(bench.counted("suspects"), 1);
  for (int i = 0; i < 50; ++i) EXPECT_LE(timed(), milliseconds(1));
  EXPECT_EQ(bench.counted("suspects"), 1);  // it is not asked again
}

TEST_F(FailoverTest, WhatAFrozenWorkerSaysLaterIsNotUsedAndItComesBack) {
  bench.spread(2, 2);
  practise();
  network().freeze("a");
  timed();
  const int served = bench.worker("a").served();
  network().pass(seconds(2));
  network().thaw("a");
  timed();
  EXPECT_EQ(bench.counted("late_answers"), 1);
  for (int i = 0; i < 10; ++i) {
    network().pass(seconds(1));
    timed();
  }
  EXPECT_GT(bench.worker("a").served(), served);
}

TEST_F(FailoverTest, ALinkThatGoesIsResentAtOnce) {
  bench.spread(4, 2);
  practise();
  network().freeze("a");  // as a process that was killed
  network().cut("a");
  EXPECT_LE(timed(), milliseconds(1));
  EXPECT_EQ(bench.counted("suspects"), 0);
  EXPECT_THAT(bench.remote().lost_workers(), ElementsAre(bench.worker("a").endpoint()));
  EXPECT_TRUE(bench.remote().reachable());
  network().mend("a");
  network().thaw("a");
  timed();
  EXPECT_THAT(bench.remote().lost_workers(), IsEmpty());
}

// ---- two micro-batches ----

TEST_F(FailoverTest, TwoMicroBatchesWaitForTheirAnswersAtTheSameTime) {
  bench.spread(2, 1);
  practise();
  const auto begin = network().now();
  for (int layer = 0; layer < 10; ++layer) {
    bench.start(0);
    network().pass(std::chrono::microseconds(60));  // what the caller computes meanwhile
    if (layer > 0) bench.expect_same_bits(bench.finish(1));
    bench.start(1);
    network().pass(std::chrono::microseconds(60));
    bench.expect_same_bits(bench.finish(0));
  }
  bench.expect_same_bits(bench.finish(1));
  // Of 20 answers of 100 us, each was on its way while the caller had 120 us of other work.
  EXPECT_LE(network().now() - begin, std::chrono::microseconds(20 * 60 + 100));
}

TEST_F(FailoverTest, NobodyIsLateWhoAnsweredWhileTheCallerComputed) {
  bench.spread(2, 2);
  practise();
  bench.start(0);
  network().pass(seconds(1));
  bench.start(1);
  network().pass(seconds(1));
  bench.expect_same_bits(bench.finish(0));
  bench.expect_same_bits(bench.finish(1));
  EXPECT_EQ(bench.counted("suspects"), 0);
  EXPECT_EQ(bench.counted("resends"), 0);
}

TEST_F(FailoverTest, AWorkerThatIsLostUnderTwoMicroBatchesCostsNeitherABit) {
  bench.spread(4, 2);
  practise();
  bench.start(0);
  bench.start(1);
  network().freeze("a");
  network().cut("a");
  bench.expect_same_bits(bench.finish(0));
  bench.expect_same_bits(bench.finish(1));
  EXPECT_GE(bench.counted("resends"), 2);
}

TEST_F(FailoverTest, BothMicroBatchesAreGatedAgainWhenExpertsAreLostUnderThem) {
  bench.spread(2, 1, DegradedPolicy::kNextBest);
  practise();
  const std::uint64_t absences = bench.remote().absences();
  bench.start(0);
  bench.start(1);
  network().freeze("b");
  network().cut("b");
  const auto begin = network().now();
  EXPECT_EQ(bench.finish(0).error().code, ErrorCode::kUnavailable);
  EXPECT_GT(bench.remote().absences(), absences);
  EXPECT_EQ(bench.finish(1).error().code, ErrorCode::kUnavailable);
  EXPECT_LE(network().now() - begin, milliseconds(500)) << "none waits for experts to come back";
}

TEST_F(FailoverTest, ARefusalThatAnotherMicroBatchHearsEndsTheStepForBoth) {
  bench.spread(2, 1);
  practise();
  for (const char* worker : {"a", "b"}) {
    bench.worker(worker).refuse(1, {ErrorCode::kInvalidArgument, "not a call"});
    bench.start(0);
    network().pass(seconds(1));
    bench.start(1);  // hears the refusal and the other worker's answer
    EXPECT_EQ(bench.finish(0).error().code, ErrorCode::kInternal);
    EXPECT_EQ(bench.finish(1).error().code, ErrorCode::kInternal);
    bench.remote().end_step();
    for (int i = 0; i < 20; ++i) timed();
  }
}

TEST_F(FailoverTest, ATableThatDropsAWorkerUnderTwoMicroBatchesCostsNeitherABit) {
  bench.spread(3, 2);
  practise();
  bench.start(0);
  bench.start(1);
  bench.expect_same_bits(bench.finish(1));
  bench.spread(2, 2);
  bench.expect_same_bits(bench.finish(0));
  bench.remote().end_step();
  timed();
}

TEST_F(FailoverTest, AMicroBatchThatIsGivenUpLeavesNothingBehind) {
  bench.spread(2, 2);
  practise();
  for (int i = 0; i < 20; ++i) {
    bench.start(0);
    bench.start(1);
    bench.remote().end_step();
    timed();
  }
}

TEST_F(FailoverTest, AWorkerTenTimesSlowerIsFoundOutAndAskedLess) {
  bench.spread(2, 2);
  practise();
  network().delay("a", milliseconds(1));
  for (int i = 0; i < 100; ++i) timed();
  const int before = bench.worker("a").served();
  for (int i = 0; i < 100; ++i) timed();
  EXPECT_LT(bench.worker("a").served() - before, 50);
}

TEST_F(FailoverTest, EveryWorkerFrozenForAWhileLosesNothing) {
  bench.spread(2, 2);
  practise();
  network().delay("a", milliseconds(700));
  network().delay("b", milliseconds(700));
  EXPECT_LE(timed(), seconds(5));
  network().thaw("a");
  network().thaw("b");
  timed();
}

TEST_F(FailoverTest, TheOnlyWorkerIsWaitedForBeyondItsDeadline) {
  bench.spread(1, 1);
  practise();
  network().delay("a", seconds(3));
  EXPECT_GE(timed(), seconds(3));
  EXPECT_EQ(bench.counted("resends"), 0);
}

struct HedgedTest : FailoverTest {
  HedgedTest() : FailoverTest(DispatchSettings{}) {}
};

TEST_F(HedgedTest, ASlowAnswerIsAskedForTwiceBeforeItsDeadline) {
  bench.spread(2, 2);
  practise();
  network().delay("a", milliseconds(5));
  EXPECT_LE(timed(), milliseconds(1));
  EXPECT_EQ(bench.counted("hedges"), 1);
  EXPECT_EQ(bench.counted("suspects"), 0);
  network().thaw("a");
  timed();
  EXPECT_EQ(bench.counted("late_answers"), 1);
}

TEST_F(HedgedTest, AFrozenWorkerWhoseLinkIsFullStallsNobody) {
  bench.spread(2, 2);
  practise();
  network().freeze("a");
  for (int i = 0; i < 300; ++i) {
    EXPECT_LE(timed(), milliseconds(25)) << i;
    network().pass(milliseconds(15));  // what was measured of it grows old
  }
}

// ---- without ----

TEST_F(FailoverTest, ToWaitIsToWait) {
  bench.spread(2, 1);
  practise();
  network().cut("b");
  const auto outputs = bench.run();
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(outputs.error().message, HasSubstr("waited 30000 ms"));
  EXPECT_EQ(bench.remote().absences(), 0u);
  EXPECT_FALSE(bench.remote().reachable());
}

TEST_F(FailoverTest, ToFailIsToFailSoon) {
  bench.spread(2, 1, DegradedPolicy::kFail);
  practise();
  network().cut("b");
  const auto before = network().now();
  const auto outputs = bench.run();
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(outputs.error().message, HasSubstr("experts are missing"));
  EXPECT_LE(network().now() - before, milliseconds(200));
  network().mend("b");
  timed();
}

TEST_F(FailoverTest, NextBestSaysWhatIsAbsentAndGoesOnWithoutIt) {
  bench.spread(2, 1, DegradedPolicy::kNextBest);
  practise();
  EXPECT_THAT(bench.absent(), IsEmpty());
  network().cut("b");

  const auto before = network().now();
  const auto outputs = bench.run();
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, ErrorCode::kUnavailable);
  EXPECT_GE(network().now() - before, milliseconds(100));
  EXPECT_EQ(bench.remote().absences(), 1u);
  ASSERT_THAT(bench.absent(), SizeIs(bench.config().gate.experts));
  for (std::uint32_t e = 0; e < bench.config().gate.experts; ++e) {
    EXPECT_EQ(bench.absent()[e], e % 2) << e;
  }
  EXPECT_TRUE(bench.remote().reachable());  // it serves

  bench.ask_for({0, 2});
  EXPECT_LE(timed(), milliseconds(1));
  EXPECT_EQ(bench.remote().absences(), 1u);

  network().mend("b");
  timed();
  EXPECT_THAT(bench.absent(), IsEmpty());
  EXPECT_EQ(bench.remote().absences(), 2u);
}

TEST_F(FailoverTest, AnAbsentExpertThatIsWantedAllTheSameIsWaitedFor) {
  bench.spread(2, 1, DegradedPolicy::kNextBest);
  practise();
  network().cut("b");
  ASSERT_FALSE(bench.run());
  const auto outputs = bench.run();
  ASSERT_FALSE(outputs);
  EXPECT_THAT(outputs.error().message, HasSubstr("waited 30000 ms"));
  EXPECT_EQ(bench.remote().absences(), 1u);
}

TEST_F(FailoverTest, ATableOfAnotherPolicyForgetsWhatIsAbsent) {
  bench.spread(2, 1, DegradedPolicy::kNextBest);
  practise();
  network().cut("b");
  ASSERT_FALSE(bench.run());
  ASSERT_FALSE(bench.absent().empty());
  bench.spread(2, 1, DegradedPolicy::kWait);
  bench.remote().maintain(network().now());
  EXPECT_THAT(bench.absent(), IsEmpty());
  EXPECT_FALSE(bench.remote().reachable());
}

TEST_F(FailoverTest, TooFewExpertsForATokenAreNoService) {
  bench.spread(1, 1, DegradedPolicy::kNextBest);
  practise();
  network().cut("a");
  bench.remote().maintain(network().now());
  EXPECT_FALSE(bench.remote().reachable());
}

}  // namespace
}  // namespace conclave::dispatch
