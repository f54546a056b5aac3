// Registry and scheduler as they run, linked by the real fabric, with nodes made by hand around
// them.
#include <gmock/gmock.h>

#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "conclave/catalog/scan.hpp"
#include "control_plane.hpp"

namespace conclave::test {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using ::testing::Not;
using wire::NodeRole;
using Registry = Running<registry::RegistryService>;
using Scheduler = Running<scheduler::SchedulerService>;

class ControlPlaneTest : public ::testing::TestWithParam<bool> {
 protected:
  ControlPlaneTest() : world_(GetParam()) {}

  std::unique_ptr<Registry> start_registry(const std::vector<std::string>& models,
                                           const std::string& address = "") {
    registry::RegistryService::Settings settings;
    settings.registry.listen = address.empty() ? world_.address("registry") : address;
    settings.registry.database = world_.folder() + "/registry.db";
    settings.registry.models = models;
    return std::make_unique<Registry>(world_, settings);
  }

  std::unique_ptr<Scheduler> start_scheduler(const std::string& registry, const std::string& model,
                                             const std::string& address = "") {
    scheduler::SchedulerService::Settings settings;
    settings.scheduler.listen = address.empty() ? world_.address("scheduler") : address;
    settings.scheduler.registry = {registry};
    settings.scheduler.model = model;
    settings.scheduler.lease = std::chrono::milliseconds(2000);
    settings.scheduler.settle = std::chrono::milliseconds(500);
    settings.scheduler.grace = std::chrono::milliseconds(100);
    settings.scheduler.publish = std::chrono::milliseconds(20);
    settings.scheduler.resolve = std::chrono::milliseconds(200);
    return std::make_unique<Scheduler>(world_, settings);
  }

  std::unique_ptr<FakeMember> join(const std::string& name, NodeRole role, Scheduler& scheduler) {
    return std::make_unique<FakeMember>(world_, name, role, scheduler->address(), demo_);
  }

  World world_;
  const wire::ModelRecord demo_ = catalog::scan_model(demo_model(), "", {}).value().record;
  const std::size_t experts_ = std::size_t{demo_.layers - demo_.dense_layers} * demo_.experts;
};

INSTANTIATE_TEST_SUITE_P(Transports, ControlPlaneTest, ::testing::Values(true, false),
                         [](const auto& transport) { return transport.param ? "Tcp" : "Inproc"; });

TEST_P(ControlPlaneTest, ARegisteredModelIsAssignedAndRouted) {
  const auto registry = start_registry({demo_model()});
  ASSERT_TRUE(registry->started()) << registry->started().error().to_string();
  const auto scheduler = start_scheduler((*registry)->address(), "conclave-demo@current");
  ASSERT_TRUE(scheduler->started()) << scheduler->started().error().to_string();
  const auto a = join("worker-a", NodeRole::kExpertWorker, *scheduler);
  const auto b = join("worker-b", NodeRole::kExpertWorker, *scheduler);
  const auto router = join("router-0", NodeRole::kRouter, *scheduler);
  const auto gateway = join("gateway-0", NodeRole::kGateway, *scheduler);

  const auto fleet = gateway->wait([](const auto& v) { return v.fleet && v.fleet->complete(); });
  const auto table = router->wait(
      [this](const auto& v) { return v.table && v.table->pool.size() == 2 * experts_; });
  const auto told = a->wait(
      [this](const auto& v) { return v.assignment && v.assignment->experts.size() == experts_; });

  ASSERT_TRUE(fleet && table && told);
  EXPECT_EQ(fleet->fleet->models.at(0).model.name, "conclave-demo");
  EXPECT_EQ(fleet->fleet->models.at(0).model.sha256, demo_.model.sha256);
  EXPECT_EQ(fleet->fleet->models.at(0).model.uri, demo_model());
  EXPECT_EQ(fleet->fleet->models.at(0).experts_ready, experts_);
  EXPECT_EQ(table->table->workers.size(), 2u);
  const auto sums = catalog::scan_model(demo_model(), "", {}).value().digests;
  for (const auto& expert : told->assignment->experts) {
    EXPECT_EQ(expert.sha256, sums.expert[expert.layer * demo_.experts + expert.index]);
  }

  Peer operator_peer(world_, "operator", NodeRole::kOperator);
  const auto link = operator_peer.link((*scheduler)->address(), NodeRole::kScheduler);
  const auto status = operator_peer.ask<wire::Fleet, fabric::FleetActor>(link, fabric::kFleetActor,
                                                                         wire::FleetRequest{});
  ASSERT_TRUE(status) << status.error().to_string();
  EXPECT_EQ(status->nodes.size(), 4u);
  EXPECT_TRUE(status->complete());
  EXPECT_THAT(scheduler->host().metrics().expose(),
              HasSubstr("conclave_scheduler_nodes{role=\"expert-worker\",state=\"ready\"} 2"));
}

TEST_P(ControlPlaneTest, ALostWorkersExpertsGoToTheOther) {
  const auto registry = start_registry({demo_model()});
  const auto scheduler = start_scheduler((*registry)->address(), "conclave-demo");
  const auto a = join("worker-a", NodeRole::kExpertWorker, *scheduler);
  auto b = join("worker-b", NodeRole::kExpertWorker, *scheduler);
  const auto router = join("router-0", NodeRole::kRouter, *scheduler);
  ASSERT_TRUE(router->wait([this](const auto& v) {
    return v.table && v.table->workers.size() == 2 && v.table->pool.size() == 2 * experts_;
  }));

  b.reset();

  EXPECT_TRUE(a->wait(
      [this](const auto& v) { return v.assignment && v.assignment->experts.size() == experts_; }));
  EXPECT_TRUE(router->wait([this](const auto& v) {
    return v.table->workers.size() == 1 && v.table->pool.size() == experts_;
  }));
}

// The scheduler dies and comes back where it was, while the registry is away: nothing moves, epochs
// rise, and the registry's return is noticed.
TEST_P(ControlPlaneTest, ARestartedSchedulerAdoptsTheFleetWithoutTheRegistry) {
  auto registry = start_registry({demo_model()});
  const std::string registry_address = (*registry)->address();
  auto scheduler = start_scheduler(registry_address, "conclave-demo");
  const std::string address = (*scheduler)->address();
  const auto a = join("worker-a", NodeRole::kExpertWorker, *scheduler);
  const auto b = join("worker-b", NodeRole::kExpertWorker, *scheduler);
  const auto router = join("router-0", NodeRole::kRouter, *scheduler);
  const auto whole = [this](const auto& v) {
    return v.table && v.table->pool.size() == 2 * experts_;
  };
  const auto before = router->wait(whole);
  ASSERT_TRUE(before);
  const auto hosted = a->wait([](const auto& v) { return v.assignment.has_value(); });

  scheduler.reset();
  registry.reset();
  scheduler = start_scheduler(registry_address, "conclave-demo", address);
  const auto gateway = join("gateway-0", NodeRole::kGateway, *scheduler);

  EXPECT_TRUE(gateway->wait([](const auto& v) { return v.fleet && v.fleet->complete(); }));
  const auto after = router->wait(
      [&](const auto& v) { return whole(v) && v.table->epoch > before->table->epoch; });
  ASSERT_TRUE(after);
  EXPECT_EQ(after->table->first, before->table->first);
  EXPECT_EQ(after->table->pool, before->table->pool);

  registry = start_registry({}, registry_address);
  const auto told = a->wait([&](const auto& v) {
    return v.assignment && v.assignment->epoch > hosted->assignment->epoch;
  });
  ASSERT_TRUE(told) << "the plan is made again when the sums are known";
  EXPECT_EQ(told->report.models, hosted->report.models);
}

// What was acknowledged is known to the next scheduler, however soon the first one dies.
TEST_P(ControlPlaneTest, AChangeIsAcknowledgedWhenTheRegistryKeepsIt) {
  auto registry = start_registry({demo_model()});
  auto scheduler = start_scheduler((*registry)->address(), "conclave-demo");
  const std::string address = (*scheduler)->address();
  const auto a = join("worker-a", NodeRole::kExpertWorker, *scheduler);
  ASSERT_TRUE(a->wait([](const auto& v) { return v.assignment.has_value(); }));
  Peer gateway(world_, "gateway-0", NodeRole::kGateway);
  Peer reader(world_, "scheduler-1", NodeRole::kScheduler);
  const auto link = gateway.link(address, NodeRole::kScheduler);
  const auto ledger = reader.link((*registry)->address(), NodeRole::kRegistry);
  const auto say = [&](const std::string& verb) {
    return gateway.ask<wire::AdminReply, fabric::AdminActor>(
        link, fabric::kAdminActor,
        wire::AdminRequest{.method = "POST",
                           .path = "/admin/v1/workers/worker-a:" + verb,
                           .subject = {.role = wire::AccessRole::kAdmin}});
  };
  const auto kept = [&] {
    const auto state = reader.ask<wire::StateReply, fabric::LedgerActor>(
        ledger, fabric::kLedgerActor, wire::StateRequest{"scheduler", 0, std::nullopt, 0});
    return state ? state->data : state.error().to_string();
  };

  const auto cordoned = say("cordon");
  ASSERT_TRUE(cordoned) << cordoned.error().to_string();
  EXPECT_EQ(cordoned->status, 200) << cordoned->body;
  EXPECT_THAT(kept(), HasSubstr("cordoned"));
  EXPECT_THAT(cordoned->body, Not(HasSubstr("kept")));

  registry.reset();
  const auto uncordoned = say("uncordon");
  ASSERT_TRUE(uncordoned) << uncordoned.error().to_string();
  EXPECT_EQ(uncordoned->status, 200) << "it is in effect all the same";
  EXPECT_THAT(uncordoned->body, HasSubstr("\"kept\":false"));
}

TEST_P(ControlPlaneTest, ASchedulerSaysWhatItWaitsFor) {
  const auto registry = start_registry({});
  const auto scheduler = start_scheduler((*registry)->address(), "nonesuch");
  const auto gateway = join("gateway-0", NodeRole::kGateway, *scheduler);

  const auto heard = gateway->wait([](const auto& v) {
    return v.fleet && v.fleet->reason.find("nonesuch") != std::string::npos;
  });

  ASSERT_TRUE(heard);
  EXPECT_FALSE(heard->fleet->complete());
  EXPECT_EQ(heard->fleet->reason, "no model: the registry: no model 'nonesuch' is registered");
}

TEST_P(ControlPlaneTest, OperatorsRegisterAndMoveAliases) {
  const auto registry = start_registry({});
  Peer peer(world_, "operator", NodeRole::kOperator);
  const auto link = peer.link((*registry)->address(), NodeRole::kRegistry);
  const auto ask = [&](auto message) {
    return peer.ask<wire::ModelRecord, fabric::CatalogActor>(link, fabric::kCatalogActor,
                                                             std::move(message));
  };

  const auto first = ask(wire::RegisterModel{"demo", "file://" + demo_model(), {"canary"}});
  ASSERT_TRUE(first) << first.error().to_string();
  EXPECT_EQ(first->model.uri, demo_model());
  EXPECT_EQ(first->model.sha256, demo_.model.sha256);
  EXPECT_EQ(ask(wire::RegisterModel{"demo", demo_model(), {}}).value(), *first);
  EXPECT_EQ(ask(wire::SetAlias{"demo", "production", 1}).value().aliases,
            (std::vector<std::string>{"canary", "production"}));
  EXPECT_EQ(ask(wire::ResolveModel{"demo@canary"}).value().model, first->model);

  EXPECT_EQ(ask(wire::ResolveModel{"demo@none"}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ask(wire::RegisterModel{"", "/no/such.gguf", {}}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ask(wire::RegisterModel{"", "gopher://b/m.gguf", {}}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask(wire::RegisterModel{"", demo_model(), {"not an alias"}}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask(wire::RegisterModel{"", std::string(CONCLAVE_SOURCE_DIR) + "/README.md", {}})
                .error()
                .code,
            ErrorCode::kCorruptData);
  const std::string metrics = registry->host().metrics().expose();
  EXPECT_THAT(metrics, HasSubstr("conclave_registry_requests_total{outcome=\"ok\",request=\"regist"
                                 "er\"} 2"));
  EXPECT_THAT(metrics, HasSubstr("outcome=\"not_found\",request=\"resolve\"} 1"));
}

TEST_P(ControlPlaneTest, OthersMayAskTheRegistryAndChangeNothing) {
  const auto registry = start_registry({demo_model()});
  Peer peer(world_, "router-0", NodeRole::kRouter);
  const auto link = peer.link((*registry)->address(), NodeRole::kRegistry);
  const auto ask = [&](auto message) {
    return peer.ask<wire::ModelRecord, fabric::CatalogActor>(link, fabric::kCatalogActor,
                                                             std::move(message));
  };

  EXPECT_EQ(ask(wire::RegisterModel{"demo", demo_model(), {}}).error().code,
            ErrorCode::kFailedPrecondition);
  EXPECT_EQ(ask(wire::SetAlias{"conclave-demo", "production", 1}).error().code,
            ErrorCode::kFailedPrecondition);
  const auto list = peer.ask<wire::ModelList, fabric::CatalogActor>(link, fabric::kCatalogActor,
                                                                    wire::ListModels{});
  EXPECT_TRUE(list) << list.error().to_string();
}

TEST_P(ControlPlaneTest, RequestsForOneFileShareItsReading) {
  const auto registry = start_registry({});
  Peer peer(world_, "operator", NodeRole::kOperator);
  const auto link = peer.link((*registry)->address(), NodeRole::kRegistry);
  constexpr int kRequests = 20;
  std::vector<std::thread> threads;
  std::vector<std::uint32_t> versions(kRequests);
  for (int i = 0; i < kRequests; ++i) {
    threads.emplace_back([&, i] {
      const auto record = peer.ask<wire::ModelRecord, fabric::CatalogActor>(
          link, fabric::kCatalogActor, wire::RegisterModel{"demo", demo_model(), {}});
      versions[static_cast<std::size_t>(i)] = record ? record->model.version : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_THAT(versions, ::testing::Each(1u));
  EXPECT_LT(registry->host().metrics().counter("conclave_registry_scanned_bytes_total", "").value(),
            static_cast<double>(demo_.bytes * kRequests));
}

TEST_P(ControlPlaneTest, ARegistryThatCannotRegisterItsModelsEnds) {
  EXPECT_EQ(start_registry({"/no/such.gguf"})->started().error().code, ErrorCode::kInvalidArgument);

  const std::string text = world_.folder() + "/text.gguf";
  std::ofstream(text) << "not a model";
  const auto registry = start_registry({text});
  ASSERT_TRUE(registry->started());
  const auto failure = registry->host().wait_failure();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, ErrorCode::kCorruptData);
  EXPECT_THAT(failure->message, HasSubstr(text));
  EXPECT_FALSE((*registry)->ready());
}

}  // namespace
}  // namespace conclave::test
