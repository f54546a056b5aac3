// What a scheduler remembers, what its successor knows of it, and what it does about things that go
// wrong.
#include <gmock/gmock.h>

#include "conclave/wire/limits.hpp"
#include "scheduler_core.hpp"
#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

using base::ErrorCode;
using test::FakeFleet;
using test::FakeRouter;
using test::FakeWorker;
using Standing = SchedulerCore::Standing;
using namespace std::chrono_literals;

constexpr std::size_t kExperts = 3 * 8;  // of FakeFleet's model: layer 0 is dense

std::map<std::string, wire::ExpertBits> hosted(const FakeFleet& fleet) {
  std::map<std::string, wire::ExpertBits> hosted;
  for (const auto& [name, worker] : fleet.workers_) hosted.emplace(name, worker.hosted());
  return hosted;
}

/// A new scheduler that knows what the registry keeps of the one before.
void succeed(FakeFleet& fleet) {
  const std::string document = to_document(fleet.core_->kept(), wire::kStateBytesMax);
  fleet.restart_scheduler();
  fleet.core_->restore(from_document(document).value(), fleet.now_);
}

TEST(SchedulerMemoryTest, CordonsAndDrainsOutliveTheScheduler) {
  FakeFleet fleet;
  fleet.make_planner_ = [] { return std::make_unique<placement::EplbFtPlanner>(); };
  fleet.restart_scheduler();
  fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.add_worker("c");
  fleet.run(3s);
  const std::uint64_t before = fleet.core_->kept_change();
  ASSERT_TRUE(fleet.core_->set_standing("b", Standing::kCordoned, fleet.now_));
  ASSERT_TRUE(fleet.core_->set_standing("a", Standing::kDraining, fleet.now_));
  EXPECT_GT(fleet.core_->kept_change(), before);
  const wire::ExpertBits cordoned = fleet.workers_.at("b").hosted();

  succeed(fleet);
  fleet.run(12s);

  EXPECT_EQ(fleet.core_->standing("a"), Standing::kDraining);
  EXPECT_EQ(fleet.core_->standing("b"), Standing::kCordoned);
  EXPECT_EQ(fleet.workers_.at("a").hosted().count(), 0u);
  EXPECT_EQ(fleet.workers_.at("b").hosted(), cordoned);
  EXPECT_TRUE(fleet.fleet().complete());
}

TEST(SchedulerMemoryTest, WhatIsSaidToTheNewSchedulerGoesFirst) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.run(3s);
  ASSERT_TRUE(fleet.core_->set_standing("a", Standing::kDraining, fleet.now_));
  const Kept kept = fleet.core_->kept();
  fleet.restart_scheduler();
  fleet.run(3s);
  ASSERT_TRUE(fleet.core_->set_standing("a", Standing::kCordoned, fleet.now_));

  fleet.core_->restore(kept, fleet.now_);

  EXPECT_EQ(fleet.core_->standing("a"), Standing::kCordoned);
}

TEST(SchedulerMemoryTest, PinsOutliveTheScheduler) {
  FakeFleet fleet;
  fleet.make_planner_ = [] { return std::make_unique<placement::EplbFtPlanner>(); };
  fleet.restart_scheduler();
  fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.run(3s);
  const placement::Pin pin{1, 2, placement::Pin::Kind::kAlso, "", {"a", "b"}};
  fleet.core_->pin(*fleet.core_->find(), 1, 2, pin, fleet.now_);

  succeed(fleet);
  fleet.run(8s);

  EXPECT_THAT(fleet.core_->find()->pins,
              testing::ElementsAre(testing::Pair(std::pair(1u, 2u), pin)));
  EXPECT_TRUE(fleet.workers_.at("a").hosted().test(1, 2));
  EXPECT_TRUE(fleet.workers_.at("b").hosted().test(1, 2));
}

TEST(SchedulerMemoryTest, ASuccessorGoesOnWithTheSamePlan) {
  FakeFleet fleet;
  for (const char* name : {"a", "b", "c"}) fleet.add_worker(name);
  fleet.run(2s, 0);  // planned, and nothing is loaded yet
  const Kept kept = fleet.core_->kept();
  ASSERT_EQ(kept.models.at("m:1").placements.size(), 1u);

  succeed(fleet);
  fleet.run(8s);

  EXPECT_EQ(fleet.core_->kept().models.at("m:1").placements, kept.models.at("m:1").placements);
  EXPECT_EQ(hosted(fleet), kept.models.at("m:1").placements[0].targets);
}

TEST(SchedulerMemoryTest, RollsBackToThePlacementBefore) {
  FakeFleet fleet;
  fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.run(7s);
  EXPECT_EQ(fleet.core_->roll_back(*fleet.core_->find(), fleet.now_).error().code,
            ErrorCode::kFailedPrecondition);
  const auto before = hosted(fleet);
  fleet.add_worker("c");
  fleet.run(7s);
  ASSERT_EQ(fleet.workers_.at("c").hosted().count(), kExperts / 3);

  const placement::Plan plan = fleet.core_->roll_back(*fleet.core_->find(), fleet.now_).value();
  fleet.run(7s);

  EXPECT_EQ(plan.moves, kExperts / 3);
  EXPECT_EQ(plan.drops, kExperts / 3);
  EXPECT_EQ(fleet.workers_.at("a").hosted(), before.at("a"));
  EXPECT_EQ(fleet.workers_.at("b").hosted(), before.at("b"));
  EXPECT_EQ(fleet.workers_.at("c").hosted().count(), 0u);
  EXPECT_TRUE(fleet.fleet().complete());
  EXPECT_EQ(fleet.core_->roll_back(*fleet.core_->find(), fleet.now_).error().code,
            ErrorCode::kFailedPrecondition);
}

TEST(SchedulerMemoryTest, ARollbackFillsInForWorkersThatAreGone) {
  FakeFleet fleet;
  for (const char* name : {"a", "b", "c"}) fleet.add_worker(name);
  fleet.run(7s);
  fleet.add_worker("d");
  fleet.run(7s);
  fleet.checks_ = false;
  fleet.kill("c");
  fleet.run(12s);
  ASSERT_TRUE(fleet.fleet().complete());

  ASSERT_TRUE(fleet.core_->roll_back(*fleet.core_->find(), fleet.now_));
  fleet.run(7s);

  EXPECT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
}

TEST(SchedulerMemoryTest, ANewSchedulerDropsNothingForALease) {
  FakeFleet fleet;  // with a lease of 5 s
  fleet.add_worker("a");
  fleet.add_worker("b");
  fleet.run(7s);
  ASSERT_TRUE(fleet.core_->set_standing("a", Standing::kDraining, fleet.now_));
  succeed(fleet);

  fleet.run(4800ms);
  EXPECT_EQ(fleet.workers_.at("b").hosted().count(), kExperts);
  EXPECT_EQ(fleet.workers_.at("a").hosted().count(), kExperts / 2);
  fleet.run(3s);
  EXPECT_EQ(fleet.workers_.at("a").hosted().count(), 0u);
}

// ---- workers that routers do not reach ----

class LostFleet : public testing::Test {
 protected:
  static SchedulerSettings settings() {
    SchedulerSettings settings = FakeFleet::settings();
    settings.replicas = 2;
    settings.lease = 60s;  // long enough to see what happens before it runs out
    settings.lost_after = 300ms;
    return settings;
  }

  LostFleet() : fleet_(settings()) {
    for (const char* name : {"a", "b", "c"}) fleet_.add_worker(name);
    routers_ = {&fleet_.add_router("r1"), &fleet_.add_router("r2")};
    fleet_.run(5s);
  }

  [[nodiscard]] std::size_t elsewhere() const {
    return fleet_.workers_.at("b").hosted().count() + fleet_.workers_.at("c").hosted().count();
  }

  FakeFleet fleet_;
  std::vector<FakeRouter*> routers_;
};

TEST_F(LostFleet, AreReplacedLongBeforeTheirLeasesEnd) {
  ASSERT_LT(elsewhere(), 2 * kExperts);
  for (FakeRouter* router : routers_) router->lost = {"a"};
  fleet_.workers_.at("a").silent = true;

  fleet_.run(3s);

  EXPECT_EQ(elsewhere(), 2 * kExperts);
  EXPECT_EQ(fleet_.core_->stats().lost_workers, 1u);
  EXPECT_EQ(fleet_.fleet().nodes.size(), 5u);  // its lease goes on

  for (FakeRouter* router : routers_) router->lost = {};
  fleet_.workers_.at("a").silent = false;
  fleet_.run(3s);
  EXPECT_EQ(fleet_.core_->stats().lost_workers, 0u);
}

TEST_F(LostFleet, OneRouterAloneUnseatsNobody) {
  const std::uint64_t plans = fleet_.core_->stats().plans_total;
  routers_[0]->lost = {"a"};

  fleet_.run(3s);

  EXPECT_EQ(fleet_.core_->stats().plans_total, plans);
  EXPECT_EQ(fleet_.core_->stats().lost_workers, 0u);
}

// ---- steps that fail ----

class FailingFleet : public testing::Test {
 protected:
  static SchedulerSettings settings() {
    SchedulerSettings settings = FakeFleet::settings();
    settings.load_deadline = 2s;
    return settings;
  }

  // The joining worker is to take over a third of the experts.
  FailingFleet() : fleet_(settings()) {
    fleet_.make_planner_ = [] { return std::make_unique<placement::EplbFtPlanner>(); };
    fleet_.restart_scheduler();
    fleet_.add_worker("a");
    fleet_.add_worker("b");
    fleet_.add_router("r");
    fleet_.run(7s);
  }

  FakeFleet fleet_;
};

TEST_F(FailingFleet, AWorkerThatGetsNothingReadyIsNotAskedAgain) {
  const auto before = hosted(fleet_);
  FakeWorker& stuck = fleet_.add_worker("c");
  stuck.stuck = true;

  fleet_.run(1500ms);
  EXPECT_TRUE(stuck.is_loading());
  fleet_.run(5s);

  EXPECT_FALSE(stuck.is_loading());
  EXPECT_EQ(fleet_.core_->stats().failed_steps_total, 1u);
  EXPECT_EQ(fleet_.workers_.at("a").hosted(), before.at("a"));
  EXPECT_EQ(fleet_.workers_.at("b").hosted(), before.at("b"));
  EXPECT_TRUE(fleet_.fleet().complete());

  // Somebody who asks for a new plan wants it tried again.
  stuck.stuck = false;
  ASSERT_TRUE(fleet_.core_->apply(*fleet_.core_->find(), fleet_.now_));
  fleet_.run(7s);
  EXPECT_GT(stuck.hosted().count(), 0u);
}

TEST_F(FailingFleet, AnExpertThatIsRefusedStaysWhereItIs) {
  FakeWorker& picky = fleet_.add_worker("c");
  picky.refuses = {{1, 0}, {1, 1}, {1, 2}, {1, 3}, {1, 4}, {1, 5}, {1, 6}, {1, 7}};

  fleet_.run(10s);

  EXPECT_FALSE(picky.is_loading());
  EXPECT_GE(fleet_.core_->stats().failed_steps_total, 1u);
  EXPECT_TRUE(fleet_.fleet().complete()) << fleet_.fleet().reason;
  for (std::uint32_t index = 0; index < 8; ++index) EXPECT_FALSE(picky.hosted().test(1, index));
}

// ---- zones ----

TEST(SchedulerZonesTest, CopiesGoToDifferentZones) {
  SchedulerSettings settings = FakeFleet::settings();
  settings.replicas = 2;
  FakeFleet fleet(settings);
  fleet.make_planner_ = [] { return std::make_unique<placement::EplbFtPlanner>(); };
  fleet.restart_scheduler();
  for (const char* name : {"a", "b", "c", "d"}) {
    fleet.add_worker(name).zone = name[0] <= 'b' ? "east" : "west";
  }
  fleet.run(8s);

  ASSERT_TRUE(fleet.fleet().complete());
  for (std::uint32_t layer = 1; layer < 4; ++layer) {
    for (std::uint32_t index = 0; index < 8; ++index) {
      const auto has = [&](const char* name) {
        return fleet.workers_.at(name).hosted().test(layer, index);
      };
      EXPECT_TRUE(has("a") || has("b")) << layer << ", " << index;
      EXPECT_TRUE(has("c") || has("d")) << layer << ", " << index;
    }
  }
}

}  // namespace
}  // namespace conclave::scheduler
