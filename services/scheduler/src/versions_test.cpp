// Several versions at once: how one takes the place of another without a moment in which neither
// is served, and how they share workers. The fleet checks every table and assignment on the way.
#include <gmock/gmock.h>

#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

using namespace std::chrono_literals;
using test::FakeFleet;
using test::FakeRouter;
using test::record_of;
using test::wanted_of;
using testing::HasSubstr;

constexpr std::size_t kExperts = 24;  // of 3 layers with 8

wire::ModelRecord second() {
  wire::ModelRecord record = record_of(2, 4, 8);
  record.model.sha256 = std::string(64, 'b');
  return record;
}

bool serves(const FakeRouter& router, std::uint32_t version) {
  const wire::RoutingTable* table = router.table_of(version);
  return table != nullptr && FakeRouter::is_whole(*table);
}

class VersionsTest : public testing::Test {
 protected:
  void start(std::uint64_t room, SchedulerSettings settings = FakeFleet::settings()) {
    fleet_ = std::make_unique<FakeFleet>(std::move(settings));
    for (const char* name : {"a", "b"}) fleet_->add_worker(name, room);
    router_ = &fleet_->add_router("r");
    fleet_->run(5s);
    ASSERT_TRUE(serves(*router_, 1)) << fleet_->fleet().reason;
  }

  std::unique_ptr<FakeFleet> fleet_;
  FakeRouter* router_ = nullptr;
};

TEST_F(VersionsTest, OneIsServedAtEveryMomentOfAChange) {
  start(kExperts);  // two copies of one version, or one of each

  fleet_->tell({second()});
  for (int i = 0; i < 200; ++i) {
    fleet_->step(1);
    ASSERT_TRUE(serves(*router_, 1) || serves(*router_, 2)) << "step " << i;
    const wire::Fleet fleet = fleet_->fleet();
    // The first is what a gateway takes for the model's bare name.
    ASSERT_TRUE(serves(*router_, fleet.models.at(0).model.version)) << "step " << i;
  }

  EXPECT_FALSE(router_->table_of(1));
  EXPECT_EQ(fleet_->copies(), kExperts);
}

// The registry answers a scheduler that was restarted before workers have said what they have.
TEST_F(VersionsTest, BothAreWantedWhenTheRegistryAnswersBeforeWorkers) {
  start(100);
  fleet_->tell({record_of(1, 4, 8), second()});
  fleet_->run(5s);
  ASSERT_TRUE(serves(*router_, 1) && serves(*router_, 2));

  fleet_->restart_scheduler(1s, false);
  fleet_->tell({record_of(1, 4, 8), second()});
  fleet_->run(10s);

  EXPECT_TRUE(serves(*router_, 1));
  EXPECT_TRUE(serves(*router_, 2));
  for (const wire::ServedModel& model : fleet_->fleet().models) EXPECT_FALSE(model.leaving);
}

TEST_F(VersionsTest, TheOldOneStaysWhileARouterComputesSomethingOfIt) {
  start(100);
  router_->busy = {1};

  fleet_->tell({second()});
  fleet_->run(30s);

  ASSERT_TRUE(router_->table_of(1));
  EXPECT_TRUE(router_->table_of(1)->leaving);
  EXPECT_TRUE(serves(*router_, 1));
  EXPECT_TRUE(serves(*router_, 2));
  ASSERT_EQ(fleet_->fleet().models.size(), 2u);
  EXPECT_EQ(fleet_->fleet().models.at(0).model.version, 2u);
  EXPECT_TRUE(fleet_->fleet().models.at(1).leaving);

  router_->busy.clear();
  fleet_->run(3s);
  EXPECT_FALSE(router_->table_of(1));
  EXPECT_EQ(fleet_->copies(), kExperts);
}

TEST_F(VersionsTest, TheOldOneStaysWhereBothHaveNoRoom) {
  start(15);  // 30 for 24 experts

  fleet_->tell({second()});
  fleet_->run(20s);

  EXPECT_TRUE(serves(*router_, 1));
  EXPECT_FALSE(router_->table_of(2));
  EXPECT_THAT(fleet_->fleet().reason, HasSubstr("m:2 waits for memory"));

  fleet_->add_worker("c", 20);
  fleet_->run(20s);
  EXPECT_TRUE(serves(*router_, 2));
  EXPECT_FALSE(router_->table_of(1));
  EXPECT_EQ(fleet_->fleet().reason, "");
}

TEST_F(VersionsTest, MayGoWithAGap) {
  SchedulerSettings settings = FakeFleet::settings();
  settings.version_change = VersionChange::kGap;
  start(15, settings);
  fleet_->checks_ = false;

  fleet_->tell({second()});
  fleet_->run(20s);

  EXPECT_TRUE(serves(*router_, 2));
  EXPECT_FALSE(router_->table_of(1));
}

TEST_F(VersionsTest, AnAliasThatMovesBackKeepsTheOldOne) {
  start(100);
  fleet_->tell({second()});
  fleet_->run(3s);
  ASSERT_TRUE(serves(*router_, 2));

  fleet_->tell({record_of(1, 4, 8)});
  fleet_->run(20s);

  EXPECT_TRUE(serves(*router_, 1));
  EXPECT_FALSE(router_->table_of(1)->leaving);
  EXPECT_FALSE(router_->table_of(2));
}

TEST_F(VersionsTest, TakesFloorPolicyAndRulesFromWhoeverWantsIt) {
  start(100);
  WantedModel two = wanted_of(second());
  fleet_->shapes_[2] = two.record;
  two.replicas = 2;
  two.policy = wire::DegradedPolicy::kFail;
  two.pins = {{.layer = 1,
               .expert = 0,
               .kind = placement::Pin::Kind::kOnly,
               .group = "",
               .workers = {"b"}}};
  fleet_->make_planner_ = [] { return std::make_unique<placement::EplbFtPlanner>(); };
  fleet_->restart_scheduler();
  ASSERT_TRUE(fleet_->core_->on_models({wanted_of(fleet_->record_), two}, fleet_->now_));
  fleet_->run(20s);

  EXPECT_TRUE(fleet_->fleet().complete()) << fleet_->fleet().reason;
  EXPECT_EQ(router_->table_of(1)->policy, wire::DegradedPolicy::kWait);
  EXPECT_EQ(router_->table_of(2)->policy, wire::DegradedPolicy::kFail);
  EXPECT_EQ(router_->table_of(2)->pool_of(1, 0).size(), 1u);
  EXPECT_EQ(router_->table_of(2)->pool_of(1, 1).size(), 2u);
  EXPECT_FALSE(fleet_->workers_.at("a").hosted(two.record.model).test(1, 0));
}

TEST_F(VersionsTest, ASchedulerThatRestartsDropsNeither) {
  start(100);
  fleet_->tell({record_of(1, 4, 8), second()});
  fleet_->run(5s);
  ASSERT_TRUE(serves(*router_, 1) && serves(*router_, 2));

  fleet_->restart_scheduler(1s, false);  // the registry is away
  for (int i = 0; i < 50; ++i) {
    fleet_->step();
    ASSERT_TRUE(serves(*router_, 1) && serves(*router_, 2)) << "step " << i;
  }
  EXPECT_EQ(fleet_->copies(), 2 * kExperts);

  fleet_->tell({second()});
  fleet_->run(15s);
  EXPECT_FALSE(router_->table_of(1));
  EXPECT_EQ(fleet_->copies(), kExperts);
}

TEST_F(VersionsTest, FindsWhatPeopleMean) {
  start(100);
  fleet_->tell({record_of(1, 4, 8), second()});
  fleet_->run(5s);

  EXPECT_EQ(fleet_->core_->find()->name(), "m:1");
  EXPECT_EQ(fleet_->core_->find("m")->name(), "m:1");
  EXPECT_EQ(fleet_->core_->find("m:2")->name(), "m:2");
  EXPECT_EQ(fleet_->core_->find("m:3"), nullptr);
}

}  // namespace
}  // namespace conclave::scheduler
