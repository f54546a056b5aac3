#include "conclave/expert_worker/expert_worker_service.hpp"

#include <gmock/gmock.h>

#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "conclave/dispatch/remote_experts.hpp"
#include "conclave/testkit/fake_scheduler.hpp"
#include "conclave/testkit/key_directory.hpp"
#include "conclave/testkit/service_host.hpp"
#include "testing_model.hpp"

namespace conclave::expert_worker {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr const char* kModel = "qwen3moe-q8_0";
constexpr const char* kNode = "worker-0";

Clock::time_point patience() { return Clock::now() + testkit::kPatience; }

// Steps of a router, on one thread.
class Router {
 public:
  Router(fabric::Context& context, const TestModel& model)
      : model_(model),
        work_(model.config, 9, 1),
        client_(*fabric::CallClient::create(context, "router", 1, {})),
        remote_(std::make_unique<dispatch::RemoteExperts>(
            model.config, *model::row_forms(model.file, model.config), model.compute->compute(),
            *client_, dispatch::DispatchSettings{}, metrics_, telemetry::Logger())) {
    for (std::uint32_t layer = first_layer(); layer < model.config.layers; ++layer) {
      expected_.push_back(*work_.run(*model.whole, layer, model.config.hidden));
    }
  }

  void use(const wire::NodeReport& worker) {
    remote_->update(std::make_shared<const wire::RoutingTable>(
        testkit::table_of(++epoch_, model_.version, model_.config,
                          {worker.node, worker.incarnation, worker.address})));
  }

  // All layers give the bits of the whole model.
  void expect_same_bits() {
    for (std::uint32_t layer = first_layer(); layer < model_.config.layers; ++layer) {
      const auto got = work_.run(*remote_, layer, model_.config.hidden);
      ASSERT_TRUE(got) << got.error().to_string();
      const std::vector<float>& expected = expected_[layer - first_layer()];
      EXPECT_EQ(std::memcmp(got->data(), expected.data(), got->size() * sizeof(float)), 0);
    }
  }

 private:
  [[nodiscard]] std::uint32_t first_layer() const { return model_.config.dense_layers; }

  const TestModel& model_;
  LayerWork work_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fabric::CallClient> client_;
  std::unique_ptr<dispatch::RemoteExperts> remote_;
  std::vector<std::vector<float>> expected_;  // by layer
  std::uint64_t epoch_ = 0;
};

bool is_ready(const wire::NodeReport& report) { return report.state == wire::NodeState::kReady; }

// ---- in the process of everybody else, as in `conclave serve` ----

class ExpertWorkerServiceTest : public ::testing::Test {
 protected:
  ExpertWorkerServiceTest()
      : model_(kModel),
        process_(*fleet::Process::create("", wire::NodeRole::kExpertWorker, {}, metrics_)),
        scheduler_(std::make_unique<testkit::FakeScheduler>(*process_)),
        host_(kNode) {
    settings_.worker.listen = "direct://worker";
    settings_.fleet.scheduler = scheduler_->address();
  }

  base::Status start() {
    service_ = *ExpertWorkerService::create(settings_, host_.context(),
                                            {process_.get(), model_.compute.get()});
    return service_->start();
  }

  TestModel model_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fleet::Process> process_;
  std::unique_ptr<testkit::FakeScheduler> scheduler_;
  testkit::ServiceHost host_;
  ExpertWorkerService::Settings settings_;
  std::unique_ptr<ExpertWorkerService> service_;
};

TEST_F(ExpertWorkerServiceTest, SaysWhatItIsUntilItIsGivenExperts) {
  settings_.worker.memory_bytes = 12'345'678;
  settings_.worker.slots = 99;
  ASSERT_TRUE(start());

  const auto report = scheduler_->wait_report(kNode);

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_EQ(report->reason, "no assignment yet");
  EXPECT_EQ(report->role, wire::NodeRole::kExpertWorker);
  EXPECT_EQ(report->address, "direct://worker");
  EXPECT_EQ(report->admin_address, host_.context().admin_address);
  EXPECT_EQ(report->device, "cpu");
  EXPECT_EQ(report->memory_bytes, 12'345'678u);
  EXPECT_EQ(report->slots, 99u);
  EXPECT_TRUE(report->models.empty());
  EXPECT_EQ(service_->ready().error().message, "no assignment yet");
}

TEST_F(ExpertWorkerServiceTest, HostsItsAssignmentAndComputes) {
  ASSERT_TRUE(start());
  scheduler_->assign(kNode, testkit::whole_assignment(3, model_.version, model_.config));

  const auto report = scheduler_->wait_report(kNode, is_ready);

  ASSERT_TRUE(report);
  EXPECT_EQ(report->epoch_seen, 3u);
  ASSERT_EQ(report->models.size(), 1u);
  EXPECT_EQ(report->models[0].model, model_.version);
  EXPECT_EQ(report->experts_ready(), model_.experts());
  EXPECT_GT(report->memory_used_bytes, 0u);
  EXPECT_TRUE(service_->ready());
  Router router(process_->context(), model_);
  router.use(*report);
  router.expect_same_bits();

  scheduler_->nudge(kNode);
  const auto after = scheduler_->wait_report(
      kNode, [](const wire::NodeReport& later) { return later.load.calls_total > 0; });
  ASSERT_TRUE(after);
  EXPECT_GT(after->load.pairs_total, 0u);
  EXPECT_THAT(host_.metrics().expose(), HasSubstr("conclave_expert_worker_experts"));
}

TEST_F(ExpertWorkerServiceTest, ComputesSeveralVersionsAtOnce) {
  const TestModel other("qwen3moe-f32");
  ASSERT_TRUE(start());
  scheduler_->assign(kNode, {testkit::whole_assignment(3, model_.version, model_.config),
                             testkit::whole_assignment(3, other.version, other.config)});

  const auto report = scheduler_->wait_report(kNode, is_ready);

  ASSERT_TRUE(report);
  ASSERT_EQ(report->models.size(), 2u);
  EXPECT_EQ(report->experts_ready(), model_.experts() + other.experts());
  Router one(process_->context(), model_);
  Router two(process_->context(), other);
  one.use(*report);
  two.use(*report);
  one.expect_same_bits();
  two.expect_same_bits();
  one.expect_same_bits();
}

TEST_F(ExpertWorkerServiceTest, SaysWhichExpertsItCouldNotLoad) {
  ASSERT_TRUE(start());
  wire::Assignment assignment = testkit::whole_assignment(1, model_.version, model_.config);
  assignment.experts[0].sha256.fill(0xab);
  scheduler_->assign(kNode, assignment);

  const auto report = scheduler_->wait_report(kNode, [&](const wire::NodeReport& some) {
    return some.experts_ready() == model_.experts() - 1 &&
           some.reason.find("refused") != std::string::npos;
  });

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_FALSE(
      report->models[0].ready.test(assignment.experts[0].layer, assignment.experts[0].index));
  EXPECT_THAT(service_->ready().error().message, HasSubstr("1 experts refused"));
}

TEST_F(ExpertWorkerServiceTest, FollowsTheSchedulerThatCameBack) {
  ASSERT_TRUE(start());
  scheduler_->assign(kNode, testkit::whole_assignment(1, model_.version, model_.config));
  ASSERT_TRUE(scheduler_->wait_report(kNode, is_ready));

  scheduler_.reset();
  scheduler_ = std::make_unique<testkit::FakeScheduler>(*process_);
  const auto report = scheduler_->wait_report(kNode);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->experts_ready(), model_.experts());  // it tells all of itself
  wire::Assignment less = testkit::whole_assignment(2, model_.version, model_.config);
  less.experts.resize(1);
  scheduler_->assign(kNode, less);

  EXPECT_TRUE(scheduler_->wait_report(
      kNode, [](const wire::NodeReport& later) { return later.experts_ready() == 1; }));
}

TEST_F(ExpertWorkerServiceTest, DoesNotWaitForItsOwnProcessWhenItDrains) {
  ASSERT_TRUE(start());
  scheduler_->assign(kNode, testkit::whole_assignment(1, model_.version, model_.config));
  const auto report = scheduler_->wait_report(kNode, is_ready);
  Router router(process_->context(), model_);
  router.use(*report);
  router.expect_same_bits();

  service_->drain(patience());

  EXPECT_EQ(service_->ready().error().message, "draining");
  EXPECT_TRUE(scheduler_->wait_report(kNode, [](const wire::NodeReport& later) {
    return later.state == wire::NodeState::kDraining;
  }));
  service_->stop();
  service_->stop();
}

TEST_F(ExpertWorkerServiceTest, RefusesADeviceThatIsNone) {
  settings_.worker.device = "abacus:1";

  const base::Status status = start();

  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(service_->ready());
  service_->stop();
}

TEST_F(ExpertWorkerServiceTest, RefusesANameThatIsTaken) {
  ASSERT_TRUE(start());
  testkit::ServiceHost other("worker-1");
  auto second = *ExpertWorkerService::create(settings_, other.context(),
                                             {process_.get(), model_.compute.get()});

  EXPECT_FALSE(second->start());
}

TEST_F(ExpertWorkerServiceTest, AnybodyMayAskWhetherItIsReadyAtAnyTime) {
  service_ = *ExpertWorkerService::create(settings_, host_.context(),
                                          {process_.get(), model_.compute.get()});
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

// ---- in a process of its own, as in compose and helm ----

class ExpertWorkerProcessTest : public ::testing::Test {
 protected:
  ExpertWorkerProcessTest()
      : model_(kModel),
        scheduling_(
            *fleet::Process::create(keys_.path(), wire::NodeRole::kScheduler, {}, metrics_)),
        scheduler_(std::make_unique<testkit::FakeScheduler>(*scheduling_, "tcp://127.0.0.1:0")),
        routing_(
            *fabric::Context::create(keys_.ring(wire::NodeRole::kRouter), {}, router_metrics_)),
        host_(kNode) {
    settings_.fleet.scheduler = scheduler_->address();
    settings_.fabric.keys = keys_.path();
    service_ = *ExpertWorkerService::create(settings_, host_.context());
    EXPECT_TRUE(service_->start());
    scheduler_->assign(kNode, testkit::whole_assignment(1, model_.version, model_.config));
    report_ = scheduler_->wait_report(kNode, is_ready).value_or(wire::NodeReport{});
  }

  TestModel model_;
  testkit::KeyDirectory keys_;
  telemetry::Metrics metrics_;
  telemetry::Metrics router_metrics_;
  std::unique_ptr<fleet::Process> scheduling_;
  std::unique_ptr<testkit::FakeScheduler> scheduler_;
  std::unique_ptr<fabric::Context> routing_;
  testkit::ServiceHost host_;
  ExpertWorkerService::Settings settings_;
  std::unique_ptr<ExpertWorkerService> service_;
  wire::NodeReport report_;
};

TEST_F(ExpertWorkerProcessTest, ServesRoutersOfOtherProcesses) {
  Router one(*routing_, model_);
  Router two(*routing_, model_);
  one.use(report_);
  two.use(report_);

  auto running = std::async(std::launch::async, [&] {
    for (int i = 0; i < 10; ++i) two.expect_same_bits();
  });
  for (int i = 0; i < 10; ++i) one.expect_same_bits();
  running.get();
}

TEST_F(ExpertWorkerProcessTest, DrainsUntilItsExpertsAreElsewhere) {
  Router router(*routing_, model_);
  router.use(report_);
  router.expect_same_bits();
  auto draining = std::async(std::launch::async, [&] { service_->drain(patience()); });
  ASSERT_TRUE(scheduler_->wait_report(kNode, [](const wire::NodeReport& report) {
    return report.state == wire::NodeState::kDraining;
  }));
  router.expect_same_bits();  // it computes until then
  EXPECT_EQ(draining.wait_for(std::chrono::seconds(0)), std::future_status::timeout);

  scheduler_->assign(kNode, {.epoch = 2, .model = model_.version, .experts = {}});

  draining.get();
}

TEST_F(ExpertWorkerProcessTest, DrainsAtOnceIfNobodyCalls) {
  const Clock::time_point deadline = patience();

  service_->drain(deadline);

  EXPECT_LT(Clock::now(), deadline);
}

TEST_F(ExpertWorkerProcessTest, DrainsNoLongerThanItMay) {
  Router router(*routing_, model_);
  router.use(report_);
  router.expect_same_bits();
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(30);

  service_->drain(deadline);

  EXPECT_GE(Clock::now(), deadline);
}

}  // namespace
}  // namespace conclave::expert_worker
