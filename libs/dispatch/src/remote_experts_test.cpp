#include "conclave/dispatch/remote_experts.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conclave/base/thread_pool.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/local_experts.hpp"
#include "conclave/testkit/direct_worker.hpp"
#include "conclave/testkit/placement.hpp"

namespace conclave::dispatch {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using testkit::DirectWorker;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kRows = 7;

// Rows of numbers that nobody chose, the same in every run.
std::vector<float> some_rows(std::size_t count) {
  std::vector<float> values(count);
  std::uint32_t state = 12345;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return values;
}

// The last layer of a model in this thread's hands, and workers of this process.
class Bench {
 public:
  explicit Bench(const std::string& model, std::uint32_t reload_wait_ms = 20'000)
      : path_(CONCLAVE_SOURCE_DIR "/tests/golden/models/" + model + ".gguf"),
        file_(*gguf::File::open(path_)),
        config_(*model::read_config(file_)),
        version_(testkit::version_of(path_)),
        compute_{kernels::kernel_table(kernels::best_isa()), pool_},
        whole_(*model::LocalExperts::load(file_, config_, compute_, {})),
        context_(*fabric::Context::create(std::nullopt, {}, metrics_)),
        client_(*fabric::CallClient::create(*context_, "router", 1, {})),
        remote_(std::make_unique<RemoteExperts>(
            config_, *model::row_forms(file_, config_), compute_, *client_,
            DispatchSettings{.call_timeout_ms = 5'000, .reload_wait_ms = reload_wait_ms}, metrics_,
            telemetry::Logger())),
        layer_(config_.layers - 1),
        x_(some_rows(std::size_t{kRows} * config_.hidden)) {
    for (std::uint32_t row = 0; row < kRows; ++row) {
      for (std::uint32_t k = 0; k < config_.gate.used; ++k) {
        pairs_.push_back({row, (row * 3 + k * 5) % config_.gate.experts});
      }
    }
  }

  RemoteExperts& remote() { return *remote_; }
  const wire::ModelVersion& version() const { return version_; }
  const model::ModelConfig& config() const { return config_; }

  DirectWorker& worker(const std::string& name) {
    auto& worker = workers_[name];
    if (!worker) {
      worker = std::make_unique<DirectWorker>(*context_, name, compute_, version_, config_);
    }
    return *worker;
  }
  /// A worker with all experts.
  DirectWorker& full_worker(const std::string& name) {
    worker(name).host_all(file_);
    return worker(name);
  }
  void end_worker(const std::string& name) { workers_.erase(name); }

  /// Expert e belongs to worker e % count, and to the next ones as replicas; they get it.
  void spread(std::size_t count, std::size_t replicas) {
    std::vector<wire::WorkerEndpoint> endpoints;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name(1, static_cast<char>('a' + i));
      worker(name);
      endpoints.push_back(workers_.at(name)->endpoint());
    }
    remote_->update(table(endpoints, [&](std::uint32_t layer, std::uint32_t expert) {
      std::vector<std::uint16_t> pool;
      for (std::size_t r = 0; r < replicas; ++r) {
        const std::size_t owner = (expert + r) % count;
        worker(endpoints[owner].node).host(file_, {layer, expert});
        pool.push_back(static_cast<std::uint16_t>(owner));
      }
      return pool;
    }));
  }

  /// A newer table than all before.
  std::shared_ptr<const wire::RoutingTable> table(std::vector<wire::WorkerEndpoint> endpoints,
                                                  const testkit::Pools& pools) {
    return std::make_shared<const wire::RoutingTable>(
        testkit::table_of(++epoch_, version_, config_, std::move(endpoints), pools));
  }
  std::shared_ptr<const wire::RoutingTable> table(const wire::WorkerEndpoint& endpoint) {
    return std::make_shared<const wire::RoutingTable>(
        testkit::table_of(++epoch_, version_, config_, endpoint));
  }

  base::Result<std::vector<float>> run(model::ExpertBackend& backend) {
    std::vector<const float*> outputs(pairs_.size());
    CONCLAVE_TRY_VOID(backend.run(layer_, x_.data(), kRows, pairs_, outputs));
    std::vector<float> all;
    for (const float* output : outputs) all.insert(all.end(), output, output + config_.hidden);
    return all;
  }
  base::Result<std::vector<float>> run() { return run(*remote_); }

  void expect_same_bits(const base::Result<std::vector<float>>& got) {
    ASSERT_TRUE(got) << got.error().to_string();
    const auto expected = run(*whole_);
    ASSERT_EQ(got->size(), expected->size());
    EXPECT_EQ(std::memcmp(got->data(), expected->data(), got->size() * sizeof(float)), 0);
  }
  void expect_same_bits() { expect_same_bits(run()); }

  double counted(const std::string& name) { return metrics_.counter(name, "").value(); }

 private:
  std::string path_;
  gguf::File file_;
  model::ModelConfig config_;
  wire::ModelVersion version_;
  base::ThreadPool pool_{2};
  kernels::Compute compute_;
  std::unique_ptr<model::LocalExperts> whole_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fabric::Context> context_;
  std::map<std::string, std::unique_ptr<DirectWorker>> workers_;
  std::unique_ptr<fabric::CallClient> client_;
  std::unique_ptr<RemoteExperts> remote_;
  std::uint64_t epoch_ = 0;
  std::uint32_t layer_ = 0;
  std::vector<float> x_;
  std::vector<model::ExpertPair> pairs_;
};

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
  EXPECT_EQ(bench.counted("conclave_router_expert_resends_total"), 3);
}

TEST(RemoteExpertsTest, CountsAStepThatWaitedOnce) {
  Bench bench(kModel);
  bench.spread(1, 1);
  bench.worker("a").refuse(5);

  bench.expect_same_bits();
  EXPECT_EQ(bench.counted("conclave_router_expert_stalls_total"), 1);
}

TEST(RemoteExpertsTest, AWorkerThatIsGoneIsNotAsked) {
  Bench bench(kModel);
  bench.spread(2, 2);
  bench.expect_same_bits();
  bench.end_worker("a");

  bench.expect_same_bits();
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
