#include "conclave/dispatch/remote_experts.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "testing_bench.hpp"

namespace conclave::dispatch {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using testing_bench::Bench;
using testkit::DirectWorker;
using Clock = std::chrono::steady_clock;

// ---- promise 1, for every kind of weights ----

class RemoteExpertsModelsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(RemoteExpertsModelsTest, GivesTheSameBitsAsTheWholeModelInOneProcess) {
  Bench bench(GetParam());
  bench.spread(1, 1);

  bench.expect_same_bits();
}

TEST_P(RemoteExpertsModelsTest, GivesTheSameBitsHoweverExpertsAreSpread) {
  Bench bench(GetParam());
  for (std::size_t workers = 2; workers <= 4; ++workers) {
    for (std::size_t replicas = 1; replicas <= 2; ++replicas) {
      bench.spread(workers, replicas);
      bench.expect_same_bits();
    }
  }
}

TEST_P(RemoteExpertsModelsTest, PairsOfAWorkerThatRefusesGoToItsReplica) {
  Bench bench(GetParam());
  bench.spread(2, 2);
  bench.worker("a").refuse(1'000'000);

  bench.expect_same_bits();
  EXPECT_EQ(bench.worker("a").served(), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, RemoteExpertsModelsTest,
                         ::testing::Values("qwen3moe-q8_0", "qwen3moe-f32", "gpt-oss-mxfp4",
                                           "deepseek2-v3-f32", "qwen3moe-bf16"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// ---- workers that fail ----

constexpr const char* kModel = "qwen3moe-q8_0";

TEST(RemoteExpertsTest, AsksAWorkerAgainThatRefusedForAWhile) {
  Bench bench(kModel);
  bench.spread(2, 1);
  bench.worker("b").refuse(3);

  bench.expect_same_bits();
  EXPECT_EQ(bench.counted("resends"), 3);
}

TEST(RemoteExpertsTest, CountsAStepThatWaitedOnce) {
  Bench bench(kModel);
  bench.spread(1, 1);
  bench.worker("a").refuse(5);

  bench.expect_same_bits();
  EXPECT_EQ(bench.counted("stalls"), 1);
}

TEST(RemoteExpertsTest, AWorkerThatIsGoneIsNotAsked) {
  Bench bench(kModel);
  bench.spread(2, 2);
  bench.expect_same_bits();
  bench.end_worker("a");

  bench.expect_same_bits();
}

TEST(RemoteExpertsTest, AWorkerWithoutALinkIsNotMissedWhereAnotherHasItsExperts) {
  Bench bench(kModel);
  const wire::WorkerEndpoint there = bench.full_worker("a").endpoint();
  bench.remote().update(bench.table({there, {"late", 1, "direct://late"}}, [](auto, auto) {
    return std::vector<std::uint16_t>{0, 1};
  }));

  bench.expect_same_bits();

  EXPECT_TRUE(bench.remote().reachable());
}

TEST(RemoteExpertsTest, WaitsForAWorkerThatComesLate) {
  Bench bench(kModel);
  bench.remote().update(bench.table({"late", 1, "direct://late"}));
  bench.remote().maintain(Clock::now());
  EXPECT_THAT(bench.remote().reachable().error().message, HasSubstr("no link to late"));
  auto running = std::async(std::launch::async, [&] { return bench.run(); });

  bench.full_worker("late");

  bench.expect_same_bits(running.get());
  EXPECT_TRUE(bench.remote().reachable());
}

TEST(RemoteExpertsTest, AnExpertThatNobodyHasEndsTheRunWithItsName) {
  Bench bench(kModel, 30);
  const wire::WorkerEndpoint endpoint = bench.worker("a").endpoint();
  bench.remote().update(
      bench.table({endpoint}, [](auto, auto) { return std::vector<std::uint16_t>(); }));

  const auto outputs = bench.run();

  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(outputs.error().message, HasSubstr("expert ("));
  EXPECT_THAT(outputs.error().message, HasSubstr("has no ready worker"));
  EXPECT_FALSE(bench.remote().reachable());
}

TEST(RemoteExpertsTest, SaysWhyWorkersRefuse) {
  Bench bench(kModel, 30);
  bench.spread(1, 1);
  bench.worker("a").refuse(1'000'000, {ErrorCode::kNotFound, "another model"});

  const auto outputs = bench.run();

  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(outputs.error().message, HasSubstr("a refuses: another model"));
}

TEST(RemoteExpertsTest, ACallThatAWorkerFindsWrongIsOurBug) {
  Bench bench(kModel);
  bench.spread(2, 1);
  bench.worker("a").refuse(1, {ErrorCode::kInvalidArgument, "rows of 3 values"});

  const auto outputs = bench.run();

  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, ErrorCode::kInternal);
  EXPECT_THAT(outputs.error().message, HasSubstr("rows of 3 values"));
  // The next step starts clean.
  bench.expect_same_bits();
}

TEST(RemoteExpertsTest, RunsAgainAfterManyFailures) {
  Bench bench(kModel, 1);
  bench.spread(2, 1);
  // More than a link has calls: each must have been given back.
  for (int i = 0; i < 10; ++i) {
    bench.worker("b").refuse(1'000'000);
    EXPECT_FALSE(bench.run());
  }
  bench.worker("b").refuse(0);

  base::Result<std::vector<float>> outputs = bench.run();
  // The worker is left alone for a moment after a refusal.
  for (int i = 0; i < 10'000 && !outputs; ++i) outputs = bench.run();
  bench.expect_same_bits(outputs);
}

TEST(RemoteExpertsTest, RefusesPairsThatTheModelHasNot) {
  Bench bench(kModel);
  bench.spread(1, 1);
  const model::ExpertPair pair{0, bench.config().gate.experts};
  std::vector<float> row(bench.config().hidden);
  const float* output = nullptr;

  const base::Status status = bench.remote().run(bench.config().layers - 1, row.data(), 1,
                                                 std::span(&pair, 1), std::span(&output, 1));

  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
}

// ---- tables ----

TEST(RemoteExpertsTest, SaysThatNoTableHasCome) {
  Bench bench(kModel, 1);

  EXPECT_THAT(bench.remote().reachable().error().message, HasSubstr("no routing table"));
  EXPECT_EQ(bench.remote().epoch(), 0u);
  EXPECT_THAT(bench.run().error().message, HasSubstr("no routing table"));
}

TEST(RemoteExpertsTest, ATableReachesARunThatWaits) {
  Bench bench(kModel);
  const wire::WorkerEndpoint endpoint = bench.full_worker("a").endpoint();
  bench.remote().update(
      bench.table({endpoint}, [](auto, auto) { return std::vector<std::uint16_t>(); }));
  auto running = std::async(std::launch::async, [&] { return bench.run(); });

  const auto table = bench.table(endpoint);
  bench.remote().update(table);

  bench.expect_same_bits(running.get());
  EXPECT_EQ(bench.remote().epoch(), table->epoch);
}

TEST(RemoteExpertsTest, OutputsOutliveAWorkerThatATableDropsMeanwhile) {
  Bench bench(kModel);
  const wire::WorkerEndpoint a = bench.full_worker("a").endpoint();
  DirectWorker& b = bench.full_worker("b");
  bench.remote().update(bench.table({a, b.endpoint()}, [](auto, std::uint32_t expert) {
    return std::vector{static_cast<std::uint16_t>(expert % 2)};
  }));
  // While b is asked, a has answered already. That b refuses makes one more call, which takes any
  // memory that is free.
  const auto without_a = bench.table(b.endpoint());
  b.before_call([&] { bench.remote().update(without_a); });
  b.refuse(1);

  bench.expect_same_bits();
  EXPECT_EQ(bench.remote().epoch(), without_a->epoch);
}

TEST(RemoteExpertsTest, TakesNoOlderTableAndNoneOfAnotherShape) {
  Bench bench(kModel);
  const wire::WorkerEndpoint endpoint = bench.full_worker("a").endpoint();
  const auto older = bench.table({"nobody", 1, "direct://nobody"});
  const auto newer = bench.table(endpoint);
  auto misshapen = std::make_shared<wire::RoutingTable>(*bench.table(endpoint));
  misshapen->experts += 1;

  bench.remote().update(newer);
  bench.remote().update(older);
  bench.remote().update(misshapen);

  bench.expect_same_bits();
  EXPECT_EQ(bench.remote().epoch(), newer->epoch);
}

TEST(RemoteExpertsTest, AnAddressThatIsNoneLeavesTheOthers) {
  Bench bench(kModel);
  const wire::WorkerEndpoint good = bench.full_worker("a").endpoint();
  bench.remote().update(bench.table({{"bad", 1, "smoke://signals"}, good}, [](auto, auto) {
    return std::vector<std::uint16_t>{0, 1};
  }));

  bench.expect_same_bits();
}

TEST(RemoteExpertsTest, CallsCarryTheTraceOfTheStep) {
  Bench bench("qwen3moe-q8_0");
  bench.spread(1, 1);
  wire::TraceContext trace;
  trace.trace_id[0] = 0xab;
  trace.span_id[7] = 0xcd;
  trace.flags = 1;

  bench.remote().trace(trace);
  ASSERT_TRUE(bench.run());

  EXPECT_EQ(bench.worker("a").last_trace(), trace);
}

TEST(RemoteExpertsTest, StopEndsARunThatWaits) {
  Bench bench(kModel, 3'600'000);
  bench.remote().update(bench.table({"nobody", 1, "direct://nobody"}));
  auto running = std::async(std::launch::async, [&] { return bench.run(); });

  bench.remote().stop();

  const auto outputs = running.get();
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(bench.run().error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace conclave::dispatch
