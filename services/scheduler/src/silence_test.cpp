// A scheduler that heard nobody for a while: the fault is its own, and it drops nobody for it.
#include <gtest/gtest.h>

#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

using test::FakeFleet;
using test::FakeRouter;
using namespace std::chrono_literals;

struct SilenceTest : testing::Test {
  void SetUp() override {
    fleet.add_worker("a");
    fleet.add_worker("b");
    router = &fleet.add_router("r");
    fleet.run(5s);
  }

  void expect_leases_run_on() {
    EXPECT_TRUE(fleet.fleet().complete());
    fleet.kill("b");
    fleet.run(7s);
    EXPECT_EQ(fleet.fleet().nodes.size(), 2u) << "leases run on";
  }

  FakeFleet fleet;
  FakeRouter* router = nullptr;
};

TEST_F(SilenceTest, ASchedulerThatWasStoppedBlamesNobody) {
  fleet.now_ += 60s;  // as if the process had been stopped, with reports waiting in its mailbox
  fleet.core_->on_tick(fleet.now_);
  EXPECT_EQ(fleet.fleet().nodes.size(), 3u);
  expect_leases_run_on();
}

TEST_F(SilenceTest, ASchedulerThatWasCutOffBlamesNobody) {
  const auto table = router->table;
  for (int i = 0; i < 600; ++i) fleet.core_->on_tick(fleet.now_ += 100ms);  // and nobody reports
  ASSERT_TRUE(fleet.report(*router));  // the first that gets through
  EXPECT_EQ(router->table, table);
  expect_leases_run_on();
}

// Its registry is an older one, say, which counts terms anew.
TEST_F(SilenceTest, ASchedulerThatAllNodesOutgrewBlamesNobody) {
  const auto workers = router->table.workers.size();
  fleet.core_->lead(2, fleet.now_ + 1h);
  for (int i = 0; i < 600; ++i) {
    fleet.core_->on_tick(fleet.now_ += 100ms);
    wire::NodeReport report = router->report();
    report.term = 9;
    EXPECT_FALSE(fleet.core_->on_report(report, fleet.now_));
  }
  ASSERT_TRUE(fleet.report(*router));  // of a version that knows no terms
  EXPECT_EQ(router->table.workers.size(), workers);
  EXPECT_EQ(fleet.fleet().nodes.size(), 3u);
}

}  // namespace
}  // namespace conclave::scheduler
