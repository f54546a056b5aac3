// What the core does about another scheduler that led before it, or that leads by now.
#include <gtest/gtest.h>

#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

using base::ErrorCode;
using test::FakeFleet;
using test::FakeWorker;
using namespace std::chrono_literals;

TEST(TwoLeadersTest, AWorkerCountsWhenItFollowsThisTerm) {
  FakeFleet fleet;
  FakeWorker& worker = fleet.add_worker("a");
  fleet.run(3s);
  ASSERT_EQ(worker.hosted().count(), 24u);
  fleet.restart_scheduler();
  fleet.core_->lead(7, Time::max());

  // The former leader may still have it drop what it says it has.
  wire::NodeReport report = worker.report();
  report.term = 6;
  const auto asked = fleet.core_->on_report(report, fleet.now_);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->lease_ms, 5000u);
  EXPECT_TRUE(asked->assignments.empty());
  EXPECT_TRUE(fleet.fleet().nodes.empty());

  report.term = 7;
  ASSERT_TRUE(fleet.core_->on_report(report, fleet.now_));
  EXPECT_EQ(fleet.fleet().nodes.size(), 1u);
  EXPECT_EQ(fleet.core_->stats().experts_ready, 24u);

  report.term = 8;
  const auto replaced = fleet.core_->on_report(report, fleet.now_);
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().code, ErrorCode::kFailedPrecondition);
}

// Steps of a tenth of a second until an expert that moved away from `a` is dropped there.
int steps_to_drop(Time leased_until) {
  FakeFleet fleet;
  fleet.add_router("r");
  FakeWorker& a = fleet.add_worker("a");
  fleet.run(8s);  // what it came with is held no longer
  const std::size_t before = a.hosted().count();
  fleet.core_->lead(0, leased_until);
  fleet.add_worker("b");
  for (int steps = 1; steps < 300; ++steps) {
    fleet.step();
    if (a.hosted().count() < before) return steps;
  }
  return 300;
}

TEST(TwoLeadersTest, WithoutALeaseACopyIsDroppedWhenAllWouldHaveToldOfAnotherLeader) {
  EXPECT_LT(steps_to_drop(Time::max()), 30);
  const int late = steps_to_drop(Time());
  EXPECT_GE(late, 100);
  EXPECT_LT(late, 200);
}

// Another leader's version that this one does not know of may be in tables of routers that have not
// come yet.
TEST(TwoLeadersTest, WhatAWorkerCameWithIsNotDroppedForALease) {
  FakeFleet fleet;
  FakeWorker& worker = fleet.add_worker("a");
  fleet.run(3s);
  ASSERT_EQ(worker.hosted().count(), 24u);
  fleet.record_ = test::record_of(2, 4, 8);
  fleet.record_.model.sha256 = std::string(64, 'b');
  fleet.restart_scheduler();
  for (int steps = 0; steps < 50; ++steps) {
    fleet.step();
    ASSERT_EQ(worker.hosted(test::version_of(1)).count(), 24u) << steps;
  }
}

}  // namespace
}  // namespace conclave::scheduler
