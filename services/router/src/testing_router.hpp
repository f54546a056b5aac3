// A router as tests of its service have it: the real one, with a scheduler that is told what to
// say, a worker with all experts and a gateway. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "conclave/engine/generator.hpp"
#include "conclave/router/router_service.hpp"
#include "conclave/testkit/direct_worker.hpp"
#include "conclave/testkit/fake_scheduler.hpp"
#include "conclave/testkit/placement.hpp"
#include "conclave/testkit/service_host.hpp"
#include "testing_gate.hpp"
#include "testing_gateway.hpp"

namespace conclave::router::test {

inline constexpr const char* kDemo = CONCLAVE_SOURCE_DIR "/models/demo/conclave-demo.gguf";
inline constexpr const char* kOther = CONCLAVE_SOURCE_DIR "/tests/golden/models/qwen3moe-q8_0.gguf";
inline constexpr const char* kNode = "router-0";
inline constexpr const char* kQuestion = "What is 47 + 385?";
inline constexpr const char* kChat =
    R"({"messages": [{"role": "user", "content": "What is 47 + 385?"}]})";

// Greedy, and past what ends a text, as far as it is not said otherwise.
inline wire::Generate request(std::uint64_t stream, const std::string& text,
                              std::uint32_t max_tokens = 12) {
  wire::Generate request;
  request.stream = stream;
  request.request_id = "req-" + std::to_string(stream);
  request.model = "demo";
  request.text = text;
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0.0f;
  request.ignore_eos = true;
  return request;
}

inline wire::Generate chat(std::uint64_t stream) {
  wire::Generate asked = request(stream, kChat);
  asked.kind = wire::PromptKind::kChat;
  asked.ignore_eos = false;
  return asked;
}

// Goes on for as long as the context lets it.
inline wire::Generate endless(std::uint64_t stream) { return request(stream, kQuestion, 900); }

// A router with its fleet in one process: a scheduler that is told what to say, and a worker with
// all experts.
class RouterServiceTest : public ::testing::Test {
 protected:
  RouterServiceTest()
      : whole_(*engine::LocalModel::load(kDemo, {.threads = 1})),
        compute_(*engine::ComputeHost::create(1, "")),
        version_(testkit::version_of(kDemo, "demo")),
        process_(*fleet::Process::create("", wire::NodeRole::kRouter, {}, metrics_)),
        scheduler_(std::make_unique<testkit::FakeScheduler>(*process_)),
        host_(kNode) {
    settings_.router.listen = "inproc://router";
    settings_.fleet.scheduler = {scheduler_->address()};
  }
  ~RouterServiceTest() override {
    gate_.open();
    gateway_.reset();
    service_.reset();
  }

  base::Status start_service() {
    service_ = *RouterService::create(settings_, host_.context(), {process_.get(), compute_.get()});
    return service_->start();
  }

  // Until the demo model is served.
  void start() {
    ASSERT_TRUE(start_service());
    worker_ = start_worker("worker");
    worker_->before_call([this] { gate_.pass(); });
    scheduler_->publish(table(worker_->endpoint()));
    ASSERT_TRUE(wait_report(wire::NodeState::kReady));
    gateway_ = std::make_unique<TestGateway>(*process_);
  }

  std::unique_ptr<testkit::DirectWorker> start_worker(const std::string& name) {
    auto worker = std::make_unique<testkit::DirectWorker>(
        process_->context(), name, compute_->compute(), version_, whole_->config());
    worker->host_all(whole_->file());
    return worker;
  }

  wire::RoutingTable table(const wire::WorkerEndpoint& worker) {
    return testkit::table_of(++epoch_, version_, whole_->config(), worker);
  }

  // Until the router uses it.
  void publish(const wire::RoutingTable& table) {
    scheduler_->publish(table);
    ASSERT_TRUE(scheduler_->wait_report(kNode, [&table](const wire::NodeReport& report) {
      return report.epoch_seen >= table.epoch;
    }));
  }

  std::optional<wire::NodeReport> wait_report(wire::NodeState state) {
    return scheduler_->wait_report(
        kNode, [state](const wire::NodeReport& report) { return report.state == state; });
  }

  // What the whole model in one process gives.
  engine::Generation expected(std::string_view text, engine::SequenceRequest sequence) {
    sequence.ignore_eos = true;
    if (sequence.prompt.empty()) {
      sequence.prompt = *whole_->tokenizer().encode(text, {.parse_special = true});
    }
    return engine::Generator(*whole_).run(std::span(&sequence, 1)).value().front();
  }

  // The answer to a request that must be accepted.
  HeardStream answer(const wire::Generate& asked) {
    const auto accepted = gateway_->generate(asked);
    EXPECT_TRUE(accepted) << accepted.error().to_string();
    return accepted ? gateway_->wait(asked.stream, asked.choices) : HeardStream{};
  }
  base::Error refusal(const wire::Generate& asked) {
    const auto accepted = gateway_->generate(asked);
    return accepted ? base::Error{} : accepted.error();
  }
  // All casts of the gateway so far have reached the engine.
  void flush() { EXPECT_TRUE(gateway_->tokenize({.model = "demo", .text = "x"})); }

  Gate gate_;  // before every call of the worker
  std::unique_ptr<engine::LocalModel> whole_;
  std::unique_ptr<engine::ComputeHost> compute_;
  wire::ModelVersion version_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fleet::Process> process_;
  std::unique_ptr<testkit::FakeScheduler> scheduler_;
  testkit::ServiceHost host_;
  RouterService::Settings settings_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<testkit::DirectWorker> worker_;
  std::unique_ptr<TestGateway> gateway_;
  std::uint64_t epoch_ = 0;
};

}  // namespace conclave::router::test
