#include "expert_host.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "conclave/dispatch/remote_experts.hpp"
#include "conclave/engine/compute_host.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/local_experts.hpp"

namespace conclave::expert_worker {
namespace {

using base::ErrorCode;
using Clock = std::chrono::steady_clock;

constexpr const char* kSha = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

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

// A worker of this process, reached by direct calls.
class Worker {
 public:
  Worker(fabric::Context& context, const std::string& name, const engine::ComputeHost& compute)
      : host_(compute.compute()) {
    server_ = *fabric::CallServer::create(context, name, 1, {}, {});
    EXPECT_TRUE(server_->serve_direct(name, [this](std::span<fabric::IncomingCall* const> calls) {
      if (refusals_ > 0) {
        --refusals_;
        for (fabric::IncomingCall* call : calls) {
          server_->answer(*call, {.ok = false, .error = {ErrorCode::kUnavailable, "draining"}});
        }
        return;
      }
      ExpertHost::Calls waiting(calls.begin(), calls.end());
      while (!waiting.empty()) host_.serve_next(waiting, *server_);
    }));
  }

  ExpertHost& host() { return host_; }
  // The next batches of calls are refused.
  void refuse(int batches) { refusals_ = batches; }

 private:
  ExpertHost host_;
  std::unique_ptr<fabric::CallServer> server_;
  int refusals_ = 0;  // direct calls come on the test's own thread
};

class ExpertHostTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string path =
        std::string(CONCLAVE_SOURCE_DIR "/tests/golden/models/") + GetParam() + ".gguf";
    file_.emplace(*gguf::File::open(path));
    config_ = *model::read_config(*file_);
    compute_ = *engine::ComputeHost::create(2, "");
    context_ = *fabric::Context::create(std::nullopt, {}, metrics_);
    whole_ = *model::LocalExperts::load(*file_, config_, compute_->compute(), {});
    layer_ = config_.layers - 1;
    rows_ = 7;
    x_ = some_rows(std::size_t{rows_} * config_.hidden);
    for (std::uint32_t row = 0; row < rows_; ++row) {
      for (std::uint32_t k = 0; k < config_.gate.used; ++k) {
        pairs_.push_back({row, (row * 3 + k * 5) % config_.gate.experts});
      }
    }
  }

  // Workers "a", "b", ..: expert e goes to worker e % count, and to the next ones as replicas.
  void start(std::size_t count, std::size_t replicas) {
    auto table = std::make_shared<wire::RoutingTable>();
    table->epoch = ++epoch_;
    table->model = {"golden", 1, "", kSha};
    table->layers = config_.layers;
    table->experts = config_.gate.experts;
    for (std::size_t i = workers_.size(); i < count; ++i) {
      const std::string name(1, static_cast<char>('a' + i));
      workers_.push_back(std::make_unique<Worker>(*context_, name, *compute_));
      workers_.back()->host().open(table->model, config_);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name(1, static_cast<char>('a' + i));
      table->workers.push_back({name, 1, "direct://" + name});
    }
    table->first.push_back(0);
    for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
      for (std::uint32_t expert = 0; expert < config_.gate.experts; ++expert) {
        for (std::size_t r = 0; r < replicas && config_.has_experts(layer); ++r) {
          const std::size_t worker = (expert + r) % count;
          auto loaded = model::load_expert(*file_, config_, {layer, expert});
          ASSERT_TRUE(workers_[worker]->host().insert({layer, expert}, std::move(*loaded)));
          table->pool.push_back(static_cast<std::uint16_t>(worker));
        }
        table->first.push_back(static_cast<std::uint32_t>(table->pool.size()));
      }
    }
    table_ = table;
    if (!client_) {
      client_ = *fabric::CallClient::create(*context_, "router", 1, {});
      remote_ = std::make_unique<dispatch::RemoteExperts>(
          config_, *model::row_forms(*file_, config_), compute_->compute(), *client_,
          dispatch::DispatchSettings{.call_timeout_ms = 5'000, .reload_wait_ms = reload_wait_ms_},
          metrics_, telemetry::Logger());
    }
    remote_->update(table_);
    remote_->maintain(Clock::now());
  }

  // The outputs of all pairs, one after another.
  std::vector<float> run(model::ExpertBackend& backend) {
    std::vector<const float*> outputs(pairs_.size());
    const base::Status status = backend.run(layer_, x_.data(), rows_, pairs_, outputs);
    EXPECT_TRUE(status) << status.error().to_string();
    std::vector<float> all;
    if (!status) return all;
    for (const float* output : outputs) all.insert(all.end(), output, output + config_.hidden);
    return all;
  }

  void expect_same_bits() {
    const std::vector<float> expected = run(*whole_);
    const std::vector<float> got = run(*remote_);
    ASSERT_EQ(got.size(), expected.size());
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0);
  }

  telemetry::Metrics metrics_;
  std::optional<gguf::File> file_;
  model::ModelConfig config_;
  std::unique_ptr<engine::ComputeHost> compute_;
  std::unique_ptr<fabric::Context> context_;
  std::unique_ptr<model::LocalExperts> whole_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<fabric::CallClient> client_;
  std::unique_ptr<dispatch::RemoteExperts> remote_;
  std::shared_ptr<wire::RoutingTable> table_;
  std::uint64_t epoch_ = 0;
  std::uint32_t reload_wait_ms_ = 20'000;
  std::uint32_t layer_ = 0;
  std::uint32_t rows_ = 0;
  std::vector<float> x_;
  std::vector<model::ExpertPair> pairs_;
};

TEST_P(ExpertHostTest, GivesTheSameBitsAsTheWholeModelInOneProcess) {
  start(1, 1);

  expect_same_bits();
}

TEST_P(ExpertHostTest, GivesTheSameBitsHoweverExpertsAreSpread) {
  for (std::size_t workers = 2; workers <= 4; ++workers) {
    start(workers, 1);
    expect_same_bits();
    start(workers, 2);
    expect_same_bits();
  }
}

TEST_P(ExpertHostTest, PairsOfAWorkerThatRefusesGoToItsReplica) {
  start(2, 2);
  workers_[0]->refuse(1'000'000);

  expect_same_bits();
}

TEST_P(ExpertHostTest, AWorkerThatRefusesForAWhileIsAskedAgain) {
  start(2, 1);
  workers_[1]->refuse(3);

  expect_same_bits();
}

TEST_P(ExpertHostTest, AnExpertThatNobodyHasEndsTheRunWithItsName) {
  reload_wait_ms_ = 30;
  start(1, 1);
  auto empty = std::make_shared<wire::RoutingTable>(*table_);
  empty->epoch = ++epoch_;
  empty->pool.clear();
  std::ranges::fill(empty->first, 0u);
  remote_->update(empty);

  std::vector<const float*> outputs(pairs_.size());
  const base::Status status = remote_->run(layer_, x_.data(), rows_, pairs_, outputs);

  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(status.error().message.find("expert ("), std::string::npos) << status.error().message;
  EXPECT_FALSE(remote_->reachable());
}

TEST_P(ExpertHostTest, AnotherModelsCallIsRefused) {
  start(1, 1);
  workers_[0]->host().open({"other", 1, "", std::string(64, 'f')}, config_);
  std::vector<const float*> outputs(pairs_.size());
  remote_.reset();
  reload_wait_ms_ = 30;
  client_.reset();
  start(1, 0);

  const base::Status status = remote_->run(layer_, x_.data(), rows_, pairs_, outputs);

  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(Models, ExpertHostTest,
                         testing::Values("qwen3moe-q8_0", "qwen3moe-f32", "gpt-oss-mxfp4",
                                         "deepseek2-v3-f32", "qwen3moe-bf16"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace conclave::expert_worker
