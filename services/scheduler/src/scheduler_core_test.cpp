#include "scheduler_core.hpp"

#include <gmock/gmock.h>

#include <random>

#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

using base::ErrorCode;
using test::FakeFleet;
using test::FakeRouter;
using test::FakeWorker;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::size_t kExperts = 3 * 8;  // of FakeFleet's model: layer 0 is dense

TEST(SchedulerCoreTest, AssignsLoadsAndPublishes) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.add_worker("b");
  FakeRouter& router = fleet.add_router("r");

  fleet.run(5s);

  EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
  EXPECT_EQ(fleet.fleet().reason, "");
  EXPECT_EQ(fleet.fleet().models.at(0).experts_total, kExperts);
  EXPECT_EQ(fleet.fleet().models.at(0).experts_ready, kExperts);
  EXPECT_EQ(fleet.workers_.at("a").hosted().count(), kExperts / 2);
  EXPECT_EQ(fleet.workers_.at("b").hosted().count(), kExperts / 2);
  EXPECT_EQ(router.table.workers.size(), 2u);
  EXPECT_EQ(router.table.pool.size(), kExperts);
  EXPECT_EQ(router.table.model, fleet.record_.model);
}

TEST(SchedulerCoreTest, AssignmentsCarryTheModelAndTheSums) {
  FakeFleet fleet;
  fleet.settings_.settle = 0ms;
  fleet.restart_scheduler();
  FakeWorker& worker = fleet.add_worker("a");

  const auto reply = fleet.core_->on_report(worker.report(), fleet.now_).value();

  ASSERT_EQ(reply.assignments.size(), 1u);
  EXPECT_EQ(reply.assignments[0].model, fleet.record_.model);
  EXPECT_EQ(reply.assignments[0].epoch, reply.epoch);
  EXPECT_EQ(reply.lease_ms, 5000u);
  ASSERT_EQ(reply.assignments[0].experts.size(), kExperts);
  const auto digests = test::digests_of(fleet.record_);
  for (const auto& expert : reply.assignments[0].experts) {
    EXPECT_EQ(expert.sha256, digests.expert[expert.layer * 8 + expert.index]);
  }
}

TEST(SchedulerCoreTest, TablesSayWhatToDoWithoutAReplica) {
  SchedulerSettings settings = FakeFleet::settings();
  settings.without_replica = WithoutReplica::kNextBest;
  FakeFleet fleet(settings);
  fleet.add_worker("a");
  FakeRouter& router = fleet.add_router("r");

  fleet.run(5s);

  EXPECT_EQ(router.table.policy, wire::DegradedPolicy::kNextBest);
}

TEST(SchedulerCoreTest, NewsAreToldOnceAndAgainToWhoHasNotSeenThem) {
  FakeFleet fleet;
  fleet.add_worker("a");
  FakeRouter& router = fleet.add_router("r");
  fleet.run(5s);
  FakeWorker& worker = fleet.workers_.at("a");

  EXPECT_TRUE(fleet.core_->on_report(worker.report(), fleet.now_).value().assignments.empty());
  EXPECT_TRUE(fleet.core_->on_report(router.report(), fleet.now_).value().tables.empty());
  router.table = {};
  EXPECT_FALSE(fleet.core_->on_report(router.report(), fleet.now_).value().tables.empty());
}

TEST(SchedulerCoreTest, WaitsForMoreReportsBeforeItPlans) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.run(900ms);
  EXPECT_EQ(fleet.workers_.at("a").epoch_seen, 0u);
  EXPECT_THAT(fleet.fleet().reason, HasSubstr("collecting reports"));
  fleet.add_worker("b");
  fleet.run(4s);
  EXPECT_EQ(fleet.core_->stats().moves_total, kExperts);
}

TEST(SchedulerCoreTest, SaysWhatIsMissing) {
  FakeFleet fleet;
  fleet.restart_scheduler(1s, false);
  EXPECT_THAT(fleet.fleet().reason, HasSubstr("the registry has not answered yet"));
  fleet.core_->on_no_model("no model 'x' is registered");
  EXPECT_THAT(fleet.fleet().reason, HasSubstr("no model 'x' is registered"));
  fleet.tell_model();
  EXPECT_EQ(fleet.fleet().reason, "no worker has joined");
  fleet.add_worker("a");
  fleet.run(3s, 0);
  EXPECT_THAT(fleet.fleet().reason,
              HasSubstr("expert (1, 0) has no ready worker, nor have 23 others"));
  EXPECT_FALSE(fleet.fleet().complete());
}

TEST(SchedulerCoreTest, RepeatsAWorkersOwnReason) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.run(3s, 0);
  wire::NodeReport report = fleet.workers_.at("a").report();
  report.reason = "1 experts refused: its bytes are not those that were registered";
  ASSERT_TRUE(fleet.core_->on_report(report, fleet.now_));
  EXPECT_THAT(fleet.fleet().reason, HasSubstr("a: 1 experts refused"));
}

TEST(SchedulerCoreTest, ExplainsWhatDoesNotFitAndTakesTheNextWorker) {
  FakeFleet fleet;
  fleet.add_worker("a", 10);
  fleet.add_worker("b", 8);
  fleet.run(5s);
  EXPECT_FALSE(fleet.fleet().complete());
  EXPECT_THAT(fleet.fleet().reason, HasSubstr("has 24 experts of 1000 B"));
  EXPECT_THAT(fleet.fleet().reason, HasSubstr("a 10 (9.8 KiB), b 8 (7.8 KiB): 6 too few"));
  EXPECT_EQ(fleet.copies(), 18u);

  fleet.add_worker("c", 7);
  fleet.run(5s);

  EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
  EXPECT_EQ(fleet.copies(), kExperts);
}

TEST(SchedulerCoreTest, ALostWorkersExpertsGoToTheOthers) {
  FakeFleet fleet;
  for (const char* name : {"a", "b", "c"}) fleet.add_worker(name);
  FakeRouter& router = fleet.add_router("r");
  fleet.run(5s);
  const auto moves = fleet.core_->stats().moves_total;

  fleet.kill("b");
  fleet.run(4s);
  EXPECT_EQ(fleet.fleet().nodes.size(), 4u) << "the lease has not run out";
  fleet.run(3s);

  EXPECT_EQ(fleet.fleet().nodes.size(), 3u);
  EXPECT_TRUE(fleet.fleet().complete());
  EXPECT_EQ(fleet.core_->stats().moves_total, moves + kExperts / 3);
  EXPECT_EQ(router.table.workers.size(), 2u);
}

TEST(SchedulerCoreTest, AWorkerThatJoinsTakesItsShareWithoutAGap) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.add_router("r");
  fleet.run(5s);

  fleet.add_worker("c");
  for (int i = 0; i < 50; ++i) {
    fleet.step(1);
    EXPECT_TRUE(fleet.fleet().complete()) << "step " << i;
  }

  EXPECT_EQ(fleet.core_->stats().moves_total, kExperts + kExperts / 3);
  for (const auto& [name, worker] : fleet.workers_) EXPECT_EQ(worker.hosted().count(), 8u) << name;
}

TEST(SchedulerCoreTest, ARestartedWorkerGetsItsExpertsAgain) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.add_router("r");
  fleet.run(5s);
  const wire::ExpertBits before = fleet.workers_.at("a").hosted();

  fleet.add_worker("a");  // a new incarnation, with nothing
  fleet.run(3s);

  EXPECT_EQ(fleet.workers_.at("a").hosted(), before);
  EXPECT_TRUE(fleet.fleet().complete());
  EXPECT_EQ(fleet.core_->stats().moves_total, kExperts);
}

TEST(SchedulerCoreTest, AnOlderIncarnationIsRefused) {
  FakeFleet fleet;
  const FakeWorker old = fleet.add_worker("a");
  fleet.add_worker("a");
  fleet.run(2s);

  const auto reply = fleet.core_->on_report(old.report(), fleet.now_);

  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(fleet.fleet().nodes.front().report.incarnation, fleet.workers_.at("a").incarnation);
  EXPECT_EQ(fleet.core_->stats().refused_total, 1u);
}

TEST(SchedulerCoreTest, RefusesWhoHasNoPlaceInAFleet) {
  FakeFleet fleet;
  wire::NodeReport report;
  report.node = "x";
  report.role = wire::NodeRole::kOperator;
  EXPECT_EQ(fleet.core_->on_report(report, fleet.now_).error().code, ErrorCode::kInvalidArgument);
  report.role = wire::NodeRole::kRouter;
  report.node = "";
  EXPECT_EQ(fleet.core_->on_report(report, fleet.now_).error().code, ErrorCode::kInvalidArgument);
}

TEST(SchedulerCoreTest, ADrainingWorkerIsEmptiedBeforeItIsToldThatNothingRemains) {
  FakeFleet fleet;
  for (const char* name : {"a", "b", "c"}) fleet.add_worker(name);
  fleet.add_router("r");
  fleet.run(5s);

  fleet.workers_.at("b").draining = true;
  for (int i = 0; i < 60; ++i) {
    fleet.step(1);
    EXPECT_TRUE(fleet.fleet().complete()) << "step " << i;
  }

  EXPECT_EQ(fleet.workers_.at("b").hosted().count(), 0u);
  EXPECT_TRUE(fleet.workers_.at("b").open.at(0).wanted.empty());
  EXPECT_EQ(fleet.copies(), kExperts);
}

TEST(SchedulerCoreTest, ADrainingWorkerWithNobodyToTakeOverKeepsServing) {
  FakeFleet fleet;
  fleet.add_worker("a");
  FakeRouter& router = fleet.add_router("r");
  fleet.run(5s);

  fleet.workers_.at("a").draining = true;
  fleet.run(5s);

  EXPECT_EQ(fleet.workers_.at("a").hosted().count(), kExperts);
  EXPECT_EQ(router.table.pool.size(), kExperts);
}

TEST(SchedulerCoreTest, ReplicasSurviveALostWorkerWithoutAGap) {
  SchedulerSettings settings;
  settings.replicas = 2;
  FakeFleet fleet(settings);
  for (const char* name : {"a", "b", "c"}) fleet.add_worker(name);
  fleet.add_router("r");
  fleet.run(6s);
  EXPECT_EQ(fleet.copies(), 2 * kExperts);

  fleet.kill("c");
  for (int i = 0; i < 100; ++i) {
    fleet.step(1);
    EXPECT_TRUE(fleet.fleet().complete());
  }

  EXPECT_EQ(fleet.copies(), 2 * kExperts);
}

TEST(SchedulerCoreTest, ARestartedSchedulerAdoptsWhatIsThere) {
  for (const auto clock_step : {1s, -86'400s}) {  // also if the clock was set back by a day
    FakeFleet fleet;
    for (const char* name : {"a", "b", "c"}) fleet.add_worker(name);
    FakeRouter& router = fleet.add_router("r");
    fleet.run(5s);
    std::map<std::string, wire::ExpertBits> hosted;
    std::map<std::string, std::uint64_t> seen;
    for (const auto& [name, worker] : fleet.workers_) {
      hosted[name] = worker.hosted();
      seen[name] = worker.epoch_seen;
    }
    const std::uint64_t table_epoch = router.table.epoch;

    fleet.restart_scheduler(clock_step);
    fleet.run(4s);

    EXPECT_EQ(fleet.core_->stats().moves_total, 0u);
    EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
    for (const auto& [name, worker] : fleet.workers_) {
      EXPECT_EQ(worker.hosted(), hosted[name]);
      EXPECT_GT(worker.epoch_seen, seen[name]);
    }
    EXPECT_GT(router.table.epoch, table_epoch);
    EXPECT_EQ(router.table.pool.size(), kExperts);
  }
}

TEST(SchedulerCoreTest, ARestartedSchedulerDoesNotTellGatewaysThatAllIsLost) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.run(5s);
  fleet.restart_scheduler();
  wire::NodeReport gateway;
  gateway.node = "g";
  gateway.role = wire::NodeRole::kGateway;
  gateway.state = wire::NodeState::kReady;

  EXPECT_FALSE(fleet.core_->on_report(gateway, fleet.now_).value().fleet);
  fleet.run(3s);
  const auto reply = fleet.core_->on_report(gateway, fleet.now_).value();

  ASSERT_TRUE(reply.fleet);
  EXPECT_TRUE(reply.fleet->complete());
}

TEST(SchedulerCoreTest, WithoutTheRegistryItServesWhatWorkersReport) {
  FakeFleet fleet;
  for (const char* name : {"a", "b"}) fleet.add_worker(name);
  FakeRouter& router = fleet.add_router("r");
  fleet.run(5s);
  const std::uint64_t seen = fleet.workers_.at("a").epoch_seen;

  fleet.restart_scheduler(1s, false);
  fleet.run(4s);

  EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
  EXPECT_EQ(fleet.fleet().models.at(0).model, fleet.record_.model);
  EXPECT_EQ(fleet.fleet().models.at(0).experts_total, kExperts);
  EXPECT_EQ(fleet.workers_.at("a").epoch_seen, seen) << "nothing is assigned without the sums";

  fleet.add_router("late");
  fleet.run(2s);
  EXPECT_EQ(fleet.routers_.at("late").table.pool.size(), kExperts);

  fleet.tell_model();
  fleet.add_worker("c");
  fleet.run(5s);
  EXPECT_EQ(fleet.workers_.at("c").hosted().count(), kExperts / 3);
  EXPECT_EQ(router.table.workers.size(), 3u);
}

TEST(SchedulerCoreTest, ANewVersionReplacesTheOldOne) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.add_worker("b");
  FakeRouter& router = fleet.add_router("r");
  fleet.run(5s);

  fleet.record_ = test::record_of(2, 3, 6);
  fleet.record_.model.sha256 = std::string(64, 'b');
  fleet.tell_model();
  fleet.run(12s);

  EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
  ASSERT_EQ(fleet.fleet().models.size(), 1u);
  EXPECT_EQ(fleet.fleet().models.at(0).experts_total, 12u);
  EXPECT_EQ(router.table.model.version, 2u);
  EXPECT_EQ(fleet.copies(), 12u);
}

TEST(SchedulerCoreTest, AMovedFileIsToldAndMovesNothing) {
  FakeFleet fleet;
  fleet.add_worker("a");
  FakeRouter& router = fleet.add_router("r");
  fleet.run(5s);

  fleet.record_.model.uri = "/elsewhere/m";
  fleet.tell_model();
  wire::Assignment told;
  told =
      fleet.core_->on_report(fleet.workers_.at("a").report(), fleet.now_).value().assignments.at(0);
  fleet.core_->on_tick(fleet.now_ += 100ms);
  const auto tables = fleet.core_->on_report(router.report(), fleet.now_).value().tables;

  EXPECT_EQ(told.model.uri, "/elsewhere/m");
  EXPECT_EQ(told.experts.size(), kExperts);
  ASSERT_EQ(tables.size(), 1u);
  EXPECT_EQ(tables[0].model.uri, "/elsewhere/m");
  EXPECT_EQ(fleet.core_->stats().moves_total, kExperts);
}

TEST(SchedulerCoreTest, RefusesARecordThatContradictsItsSums) {
  FakeFleet fleet;
  auto record = test::record_of(2, 4, 8);
  auto digests = test::digests_of(record);
  digests.expert.pop_back();
  WantedModel wanted = test::wanted_of(record);
  wanted.digests = std::make_shared<const wire::ModelDigests>(digests);
  EXPECT_EQ(fleet.core_->on_models({wanted}, fleet.now_).error().code, ErrorCode::kInvalidArgument);
  record.experts = 0;
  EXPECT_EQ(fleet.core_->on_models({test::wanted_of(record)}, fleet.now_).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(fleet.fleet().models.at(0).model.version, 1u);
}

TEST(SchedulerCoreTest, ReadyExpertsOfAnotherModelOrShapeDoNotCount) {
  FakeFleet fleet;
  FakeWorker& worker = fleet.add_worker("a");
  fleet.run(5s);
  wire::NodeReport report = worker.report();
  report.models[0].model.version = 7;
  ASSERT_TRUE(fleet.core_->on_report(report, fleet.now_));
  EXPECT_EQ(fleet.fleet().models.at(0).experts_ready, 0u);
  report = worker.report();
  report.models[0].ready = wire::ExpertBits(1000, 4);
  ASSERT_TRUE(fleet.core_->on_report(report, fleet.now_));
  EXPECT_EQ(fleet.fleet().models.at(0).experts_ready, 0u);
  ASSERT_TRUE(fleet.core_->on_report(worker.report(), fleet.now_));
  EXPECT_EQ(fleet.fleet().models.at(0).experts_ready, kExperts);
}

TEST(SchedulerCoreTest, PublishesNoOftenerThanItMay) {
  FakeFleet fleet({}, 20, 32);
  for (const char* name : {"a", "b"}) fleet.add_worker(name);
  FakeRouter& router = fleet.add_router("r");
  fleet.run(2s, 0);
  std::set<std::uint64_t> epochs;
  const auto start = fleet.now_;
  while (fleet.now_ - start < 2s) {  // a report a millisecond
    fleet.now_ += 1ms;
    for (auto& [name, worker] : fleet.workers_) {
      worker.load();
      ASSERT_TRUE(fleet.report(worker));
    }
    ASSERT_TRUE(fleet.report(router));
    epochs.insert(router.table.epoch);
  }
  EXPECT_TRUE(fleet.fleet().complete());
  EXPECT_GE(epochs.size(), 4u);
  EXPECT_LE(epochs.size(), 22u);
}

TEST(SchedulerCoreTest, NudgesWhoeverHasNews) {
  FakeFleet fleet;
  fleet.settings_.settle = 0ms;
  fleet.restart_scheduler();
  fleet.add_worker("a");
  fleet.add_worker("b");
  FakeRouter& router = fleet.add_router("r");
  ASSERT_TRUE(fleet.report(router));
  ASSERT_TRUE(fleet.report(fleet.workers_.at("a")));
  fleet.core_->take_nudges();

  ASSERT_TRUE(fleet.report(fleet.workers_.at("b")));

  std::set<std::string> nudged;
  for (const NudgeTo& nudge : fleet.core_->take_nudges()) nudged.insert(nudge.node);
  EXPECT_EQ(nudged, std::set<std::string>{"a"}) << "b has its news, and there is no table yet";
  while (fleet.workers_.at("a").load()) {
  }
  fleet.now_ += 1s;
  ASSERT_TRUE(fleet.report(fleet.workers_.at("a")));
  nudged.clear();
  for (const NudgeTo& nudge : fleet.core_->take_nudges()) nudged.insert(nudge.node);
  EXPECT_TRUE(nudged.contains("r"));
  EXPECT_TRUE(fleet.core_->take_nudges().empty());
}

// Each of two full workers has one layer; to have half of each they would have to swap, and neither
// has room to begin.
TEST(SchedulerCoreTest, APlanThatCannotComeTrueIsGivenUp) {
  FakeFleet fleet({}, 3, 2);
  FakeWorker& a = fleet.add_worker("a", 2);
  FakeWorker& b = fleet.add_worker("b", 2);
  std::uint32_t layer = 1;
  for (FakeWorker* worker : {&a, &b}) {
    wire::ExpertBits hosted(3, 2);
    for (const std::uint32_t index : {0u, 1u}) hosted.set(layer, index);
    worker->open = {{fleet.record_.model, hosted, {}}};
    ++layer;
  }
  const wire::ExpertBits before = a.hosted();
  FakeRouter& router = fleet.add_router("r");

  fleet.run(8s);

  EXPECT_EQ(fleet.core_->stats().plans_total, 2u) << "the second one leaves everything in place";
  EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
  EXPECT_EQ(a.hosted(), before);
  EXPECT_EQ(router.table.pool.size(), 4u);

  fleet.add_worker("c", 2);  // room to move
  fleet.run(8s);
  EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
  EXPECT_GE(fleet.workers_.at("c").hosted().count(), 1u);
}

// Workers come, die, restart, drain and change size at random; the fleet checks every table and
// every assignment on the way (testing_fleet.hpp), and in the end everything is served.
TEST(SchedulerCoreTest, KeepsItsPromisesInRandomFleets) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    const auto upto = [&random](std::uint32_t most) {
      return static_cast<std::uint32_t>(random() % (most + 1));
    };
    SchedulerSettings settings;
    settings.replicas = 1 + upto(2);
    FakeFleet fleet(settings, 2 + upto(4), 1 + upto(11));
    fleet.add_router("r0");
    fleet.add_router("r1");
    int names = 0;
    for (int event = 0; event < 60; ++event) {
      const std::string some =
          fleet.workers_.empty()
              ? ""
              : std::next(fleet.workers_.begin(),
                          static_cast<std::ptrdiff_t>(random() % fleet.workers_.size()))
                    ->first;
      switch (upto(7)) {
        case 0:
        case 1:
          if (fleet.workers_.size() < 6) {
            fleet.add_worker("w" + std::to_string(names++), 1 + upto(60)).slots =
                upto(1) * upto(30);
          }
          break;
        case 2:
          if (!some.empty()) fleet.kill(some);
          break;
        case 3:
          if (!some.empty()) fleet.add_worker(some, 1 + upto(60));
          break;
        case 4:
          if (!some.empty()) fleet.workers_.at(some).draining = true;
          break;
        case 5:
          fleet.restart_scheduler(std::chrono::seconds(static_cast<int>(upto(100)) - 50),
                                  upto(3) != 0);
          break;
        case 6:
          fleet.tell_model();
          break;
        default:
          break;
      }
      const std::uint32_t steps = upto(20);
      for (std::uint32_t i = 0; i < steps; ++i) fleet.step(static_cast<int>(upto(3)));
      if (testing::Test::HasFailure()) {
        ADD_FAILURE() << "seed " << seed << ", event " << event;
        return;
      }
    }
    for (auto worker = fleet.workers_.begin(); worker != fleet.workers_.end();) {
      worker = worker->second.draining ? fleet.workers_.erase(worker) : std::next(worker);
    }
    fleet.tell_model();
    fleet.add_worker("big-0");
    fleet.add_worker("big-1");
    fleet.add_worker("big-2");
    fleet.run(20s);
    EXPECT_TRUE(fleet.fleet().complete()) << "seed " << seed << ": " << fleet.fleet().reason;
    EXPECT_EQ(fleet.copies(), settings.replicas * fleet.fleet().models.at(0).experts_total)
        << "seed " << seed;
    for (const auto& [name, router] : fleet.routers_) {
      EXPECT_EQ(router.table.pool.size(), fleet.copies()) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace conclave::scheduler
