// A router among workers that come and go, tables, models and the scheduler.
#include <gmock/gmock.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "conclave/model/digest.hpp"
#include "testing_router.hpp"

namespace conclave::router::test {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using wire::FinishReason;
using Clock = std::chrono::steady_clock;

// ---- the fleet ----

TEST_F(RouterServiceTest, SaysWhatItIsUntilItHasAModel) {
  settings_.router.advertise = "tcp://router:7400";
  ASSERT_TRUE(start_service());

  const auto report = scheduler_->wait_report(kNode);

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_THAT(report->reason, HasSubstr("named no model"));
  EXPECT_EQ(report->role, wire::NodeRole::kRouter);
  EXPECT_EQ(report->address, "tcp://router:7400");
  EXPECT_EQ(report->epoch_seen, 0u);
  gateway_ = std::make_unique<TestGateway>(*process_);
  EXPECT_EQ(refusal(request(1, kQuestion)).code, ErrorCode::kUnavailable);
}

TEST_F(RouterServiceTest, ReportsTheModelAndTheTableThatItUses) {
  start();
  scheduler_->nudge(kNode);

  const auto report = scheduler_->wait_report(
      kNode, [&](const wire::NodeReport& some) { return some.epoch_seen == epoch_; });

  ASSERT_TRUE(report);
  ASSERT_EQ(report->models.size(), 1u);
  EXPECT_EQ(report->models[0].model, version_);
  EXPECT_EQ(report->load.kv_tokens_max, settings_.batch.kv_tokens_max);
  EXPECT_THAT(host_.metrics().expose(), HasSubstr("conclave_router_sequences_running"));
}

TEST_F(RouterServiceTest, TakesTheMemoryOfItsCacheWhileItHasNothingToDo) {
  start();
  const std::string all =
      "conclave_router_kv_tokens_populated " + std::to_string(settings_.batch.kv_tokens_max) + "\n";

  const auto deadline = Clock::now() + std::chrono::seconds(60);
  while (host_.metrics().expose().find(all) == std::string::npos && Clock::now() < deadline) {
    std::this_thread::yield();
  }

  EXPECT_THAT(host_.metrics().expose(), HasSubstr(all));
}

TEST_F(RouterServiceTest, SaysWhyAModelCannotBeLoaded) {
  ASSERT_TRUE(start_service());
  version_.uri = "/no/such/file.gguf";
  scheduler_->publish(table({"worker", 1, "direct://worker"}));

  const auto report = scheduler_->wait_report(kNode, [](const wire::NodeReport& some) {
    return some.reason.find("cannot load") != std::string::npos;
  });

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_EQ(report->epoch_seen, 0u) << "it does not use the table";
  EXPECT_THAT(service_->ready().error().message, HasSubstr("/no/such/file.gguf"));
}

TEST_F(RouterServiceTest, RefusesABackboneThatWasNotRegistered) {
  ASSERT_TRUE(start_service());
  worker_ = start_worker("worker");
  wire::RoutingTable wrong = table(worker_->endpoint());
  const wire::Sha256 sum = *model::backbone_digest(whole_->file(), whole_->config());
  wrong.backbone = sum;
  wrong.backbone[31] ^= 1;
  scheduler_->publish(wrong);

  const auto report = scheduler_->wait_report(
      kNode, [](const wire::NodeReport& some) { return !some.refused.empty(); });

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_EQ(report->refused[0].model, version_);
  EXPECT_EQ(report->refused[0].layer, wire::RefusedExpert::kBackbone);
  EXPECT_THAT(report->reason, HasSubstr("backbone"));
}

TEST_F(RouterServiceTest, ServesABackboneThatWasRegistered) {
  ASSERT_TRUE(start_service());
  worker_ = start_worker("worker");
  wire::RoutingTable right = table(worker_->endpoint());
  right.backbone = *model::backbone_digest(whole_->file(), whole_->config());
  scheduler_->publish(right);

  const auto report = wait_report(wire::NodeState::kReady);

  ASSERT_TRUE(report);
  EXPECT_TRUE(report->refused.empty());
}

TEST_F(RouterServiceTest, IsNotReadyWithoutALinkToEveryExpert) {
  ASSERT_TRUE(start_service());
  scheduler_->publish(table({"worker", 1, "direct://worker"}));

  const auto report = scheduler_->wait_report(kNode, [](const wire::NodeReport& some) {
    return some.reason.find("no link to worker") != std::string::npos;
  });
  ASSERT_TRUE(report);
  worker_ = start_worker("worker");

  EXPECT_TRUE(wait_report(wire::NodeState::kReady));
}

TEST_F(RouterServiceTest, AStreamOutlivesItsWorker) {
  start();
  const wire::Generate asked = request(1, kQuestion, 300);
  ASSERT_TRUE(gateway_->generate(asked));
  gateway_->wait_begun(1);

  worker_.reset();
  auto other = start_worker("other");
  scheduler_->publish(table(other->endpoint()));

  const HeardStream heard = gateway_->wait(1);
  EXPECT_EQ(heard.choices[0].tokens, expected(kQuestion, {.max_tokens = 300}).tokens);
  EXPECT_GT(other->served(), 0);
}

TEST_F(RouterServiceTest, TellsTheSchedulerAtOnceOfAWorkerThatItLost) {
  settings_.fleet.report_ms = 60'000;
  start();

  worker_.reset();

  EXPECT_TRUE(scheduler_->wait_report(kNode, [](const wire::NodeReport& report) {
    return report.lost == std::vector<std::string>{"worker"};
  }));
}

void expect_unavailable(const HeardStream& heard, const char* why) {
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kError);
  EXPECT_EQ(heard.choices[0].error.code, ErrorCode::kUnavailable);
  EXPECT_THAT(heard.choices[0].error.message, HasSubstr(why));
}

TEST_F(RouterServiceTest, AStreamEndsWithAnErrorIfItsExpertsStayAway) {
  settings_.dispatch.reload_wait_ms = 10;
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);

  worker_.reset();

  expect_unavailable(gateway_->wait(1), "no link to worker");
  EXPECT_FALSE(service_->ready());
}

// How often each expert is the best of a token, and how often another of its choice.
class Counts final : public engine::RoutingObserver {
 public:
  explicit Counts(const model::ModelConfig& config)
      : used_(config.gate.used),
        best_(config.layers, std::vector<int>(config.gate.experts)),
        others_(best_) {}
  void routed(std::uint32_t layer, const model::Routing& routing) override {
    for (std::size_t i = 0; i < routing.experts.size(); ++i) {
      ++(i % used_ == 0 ? best_ : others_)[layer][routing.experts[i]];
    }
  }
  /// Of this layer, the one that is wanted most and never as the best.
  [[nodiscard]] std::uint32_t most_dispensable(std::uint32_t layer) const {
    std::uint32_t most = 0;
    for (std::uint32_t e = 0; e < best_[layer].size(); ++e) {
      const bool is_more = others_[layer][e] > others_[layer][most] || best_[layer][most] > 0;
      if (best_[layer][e] == 0 && is_more) most = e;
    }
    return most;
  }

 private:
  std::size_t used_;
  std::vector<std::vector<int>> best_, others_;  // by layer, expert
};

TEST_F(RouterServiceTest, TokensDoWithoutAnExpertWhereThatIsThePolicy) {
  settings_.dispatch.degrade_after_ms = 1;
  const model::ModelConfig& config = whole_->config();
  constexpr std::uint32_t kLayer = 1;
  Counts counts(config);
  const auto pool = *engine::make_kv_pool(config, {});
  engine::Batcher batcher(whole_->backbone(), whole_->experts(), *pool, whole_->tokenizer(),
                          whole_->compute(), {});
  batcher.observe(&counts);
  engine::SequenceRequest sequence;
  sequence.prompt = *whole_->tokenizer().encode(kQuestion, {.parse_special = true});
  sequence.max_tokens = 12;
  sequence.ignore_eos = true;
  ASSERT_TRUE(batcher.submit(std::move(sequence)));
  while (batcher.has_work()) batcher.step();
  const std::uint32_t gone = counts.most_dispensable(kLayer);

  start();
  auto other = start_worker("other");
  const auto with_two = [&](wire::DegradedPolicy policy) {
    auto table = testkit::table_of(
        ++epoch_, version_, config, {worker_->endpoint(), {"other", 1, "direct://other"}},
        [&](std::uint32_t layer, std::uint32_t expert) {
          return std::vector{static_cast<std::uint16_t>(layer == kLayer && expert == gone ? 1 : 0)};
        });
    table.policy = policy;
    return table;
  };
  publish(with_two(wire::DegradedPolicy::kNextBest));
  const HeardStream exact = answer(request(1, kQuestion));
  EXPECT_EQ(exact.choices[0].tokens, expected(kQuestion, {.max_tokens = 12}).tokens);
  other.reset();

  wire::Generate asked = request(2, kQuestion);
  asked.cache_salt = "again";  // or the prompt would not be computed
  const HeardStream degraded = answer(asked);
  EXPECT_EQ(degraded.choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(degraded.choices[0].tokens.size(), 12u);
  std::uint32_t pairs = 0;
  for (const wire::TokenEvent& event : degraded.choices[0].events) pairs += event.degraded;
  EXPECT_GT(pairs, 0u);
  EXPECT_TRUE(service_->ready());

  other = start_worker("other");
  publish(with_two(wire::DegradedPolicy::kWait));
  asked = request(3, kQuestion);
  asked.cache_salt = "again";
  const HeardStream again = answer(asked);
  EXPECT_EQ(again.choices[0].tokens, exact.choices[0].tokens);
  for (const wire::TokenEvent& event : again.choices[0].events) EXPECT_EQ(event.degraded, 0u);
}

TEST_F(RouterServiceTest, MissingExpertsEndAStreamSoonWhereThatIsThePolicy) {
  start();
  auto failing = table(worker_->endpoint());
  failing.policy = wire::DegradedPolicy::kFail;
  publish(failing);
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);

  worker_.reset();

  expect_unavailable(gateway_->wait(1), "experts are missing");
}

TEST_F(RouterServiceTest, AnotherModelReplacesTheFirst) {
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  const auto other = *engine::LocalModel::load(kOther, {.threads = 1});
  const wire::ModelVersion version = testkit::version_of(kOther, "other", 2);
  testkit::DirectWorker worker(process_->context(), "other", compute_->compute(), version,
                               other->config());
  worker.host_all(other->file());

  scheduler_->publish(testkit::table_of(++epoch_, version, other->config(), worker.endpoint()));

  const HeardStream heard = gateway_->wait(1);
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kError);
  EXPECT_EQ(heard.choices[0].error.code, ErrorCode::kUnavailable);
  const auto report = scheduler_->wait_report(kNode, [&](const wire::NodeReport& some) {
    return some.models.size() == 1 && some.models[0].model == version &&
           some.state == wire::NodeState::kReady;
  });
  ASSERT_TRUE(report);
  EXPECT_GT(report->load.tokens_total, 0u) << "totals go on";
  EXPECT_EQ(refusal(request(2, "a")).code, ErrorCode::kNotFound);
  wire::Generate asked = request(3, "");
  asked.model = "other";
  asked.kind = wire::PromptKind::kTokens;
  asked.tokens = {3, 4, 5};
  engine::SequenceRequest alone{.prompt = asked.tokens, .max_tokens = 12, .ignore_eos = true};
  EXPECT_EQ(answer(asked).choices[0].tokens,
            engine::Generator(*other).run(std::span(&alone, 1))->front().tokens);
}

TEST_F(RouterServiceTest, ServesSeveralVersionsAndLeavesOneInPeace) {
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  const auto other = *engine::LocalModel::load(kOther, {.threads = 1});
  const wire::ModelVersion second = testkit::version_of(kOther, "demo", 2);
  testkit::DirectWorker worker(process_->context(), "other", compute_->compute(), second,
                               other->config());
  worker.host_all(other->file());
  const auto both = [&](bool leaving) {
    wire::RoutingTable one = table(worker_->endpoint());
    one.leaving = leaving;
    return std::vector{std::move(one),
                       testkit::table_of(epoch_, second, other->config(), worker.endpoint())};
  };

  scheduler_->publish(both(false));
  ASSERT_TRUE(scheduler_->wait_report(kNode, [&](const wire::NodeReport& some) {
    const wire::HostedModel* open = some.hosted(second);
    return some.models.size() == 2 && open != nullptr && open->state == wire::NodeState::kReady &&
           some.epoch_seen == epoch_;
  }));
  wire::Generate asked = request(2, "");
  asked.version = 2;
  asked.kind = wire::PromptKind::kTokens;
  asked.tokens = {3, 4, 5};
  engine::SequenceRequest alone{.prompt = asked.tokens, .max_tokens = 12, .ignore_eos = true};
  const auto of_second = engine::Generator(*other).run(std::span(&alone, 1))->front().tokens;
  EXPECT_EQ(answer(asked).choices[0].tokens, of_second);
  EXPECT_EQ(answer(request(3, kQuestion)).choices[0].tokens,
            expected(kQuestion, {.max_tokens = 12}).tokens);
  wire::Generate third = request(4, kQuestion);
  third.version = 3;
  EXPECT_EQ(refusal(third).code, ErrorCode::kUnavailable);

  // The first one is left: what runs goes on, and what names it is still taken.
  scheduler_->publish(both(true));
  ASSERT_TRUE(scheduler_->wait_report(kNode, [&](const wire::NodeReport& some) {
    const wire::HostedModel* open = some.hosted(version_);
    return open != nullptr && open->state == wire::NodeState::kDraining;
  }));
  asked.stream = 5;
  asked.version = 0;
  EXPECT_EQ(answer(asked).choices[0].tokens, of_second) << "whichever is served stays";
  wire::Generate of_first = request(6, kQuestion);
  of_first.version = 1;
  EXPECT_EQ(answer(of_first).choices[0].tokens, expected(kQuestion, {.max_tokens = 12}).tokens);

  gateway_->cancel({"gateway-0", 1});
  EXPECT_EQ(gateway_->wait(1).choices[0].finish, FinishReason::kCancelled);
  scheduler_->nudge(kNode);
  ASSERT_TRUE(scheduler_->wait_report(
      kNode, [&](const wire::NodeReport& some) { return some.hosted(version_) == nullptr; }));

  scheduler_->publish({testkit::table_of(++epoch_, second, other->config(), worker.endpoint())});
  ASSERT_TRUE(scheduler_->wait_report(
      kNode, [&](const wire::NodeReport& some) { return some.epoch_seen == epoch_; }));
  of_first.stream = 7;
  EXPECT_EQ(refusal(of_first).code, ErrorCode::kUnavailable);
  asked.stream = 8;
  EXPECT_EQ(answer(asked).choices[0].tokens, of_second);
}

TEST_F(RouterServiceTest, ServesOnWithoutItsScheduler) {
  start();
  scheduler_.reset();

  EXPECT_FALSE(answer(request(1, kQuestion)).choices.empty());
  EXPECT_TRUE(service_->ready());

  scheduler_ = std::make_unique<testkit::FakeScheduler>(*process_);
  const auto report = scheduler_->wait_report(kNode);
  ASSERT_TRUE(report);
  ASSERT_EQ(report->models.size(), 1u);
  EXPECT_EQ(report->models[0].model, version_);
}

TEST_F(RouterServiceTest, StopsWhileAStepWaitsForAnExpert) {
  settings_.dispatch.reload_wait_ms = 3'600'000;
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  worker_.reset();
  scheduler_->publish(table({"nobody", 1, "direct://nobody"}));

  const Clock::time_point start = Clock::now();
  service_->stop();
  service_->stop();

  EXPECT_LT(Clock::now() - start, testkit::kPatience);
}

TEST_F(RouterServiceTest, RefusesAnAddressThatIsNone) {
  settings_.router.listen = "smoke://signals";

  const base::Status status = start_service();

  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  service_->stop();
  EXPECT_FALSE(service_->ready());
}

TEST_F(RouterServiceTest, AnybodyMayAskWhetherItIsReadyAtAnyTime) {
  service_ = *RouterService::create(settings_, host_.context(), {process_.get(), compute_.get()});
  std::atomic<bool> over{false};
  std::thread asker([&] {
    while (!over) static_cast<void>(service_->ready());
  });

  EXPECT_TRUE(service_->start());
  service_->drain(Clock::now());
  service_->stop();

  over = true;
  asker.join();
}

}  // namespace
}  // namespace conclave::router::test
