#include "conclave/placement/load_window.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace conclave::placement {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(LoadWindowTest, GivesPairsASecondThatDecay) {
  LoadWindow window(2, 3, {seconds(10)});
  window.add(1, 2, 100);
  window.close(seconds(10));
  EXPECT_DOUBLE_EQ(window.loads()[5], 10);
  window.close(seconds(10));  // silence: half as many pairs, and 15 seconds that count
  EXPECT_DOUBLE_EQ(window.loads()[5], 50.0 / 15);
  EXPECT_DOUBLE_EQ(window.pairs_total(), 50);
  window.add(7, 0, 5);  // a report of another model
  window.add(0, 3, 5);
  window.close(seconds(1));
  EXPECT_LT(window.pairs_total(), 50);
}

TEST(LoadWindowTest, DescribesTheShapeOfALayer) {
  LoadWindow window(2, 4);
  for (std::uint32_t e = 0; e < 4; ++e) window.add(0, e, 100);
  window.add(1, 2, 400);
  window.close(seconds(1));
  const LayerLoad even = window.layer(0);
  EXPECT_DOUBLE_EQ(even.entropy, 1);
  EXPECT_DOUBLE_EQ(even.variation, 0);
  EXPECT_DOUBLE_EQ(even.max_over_mean, 1);
  EXPECT_EQ(even.activated, 4u);
  const LayerLoad all_to_one = window.layer(1);
  EXPECT_DOUBLE_EQ(all_to_one.entropy, 0);
  EXPECT_DOUBLE_EQ(all_to_one.variation, std::sqrt(3.0));
  EXPECT_DOUBLE_EQ(all_to_one.max_over_mean, 4);
  EXPECT_EQ(all_to_one.hottest, 2u);
  EXPECT_DOUBLE_EQ(all_to_one.hottest_share, 1);
  EXPECT_EQ(LoadWindow(1, 4).layer(0).pairs, 0);
}

TEST(LoadWindowTest, DriftIsNothingForTheSameLoadAndOneForAnother) {
  LoadWindow window(1, 4, {milliseconds(1)});
  window.add(0, 0, 1'000'000);
  window.add(0, 1, 1'000'000);
  window.close(seconds(1));
  EXPECT_EQ(window.drift(), 0);  // nothing marked
  window.mark_placed();
  EXPECT_EQ(window.drift(), 0);
  window.add(0, 2, 1'000'000);
  window.add(0, 3, 1'000'000);
  window.close(seconds(1));
  EXPECT_NEAR(window.drift(), 1, 1e-3);
}

// The same distribution sampled again and again: few pairs must look no more drifted than many.
TEST(LoadWindowTest, ChanceIsNotDrift) {
  std::mt19937 random(1);
  for (const int pairs : {200, 2'000, 20'000}) {
    double sum = 0;
    for (int round = 0; round < 50; ++round) {
      LoadWindow window(1, 64, {milliseconds(1)});
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < pairs; ++i) window.add(0, random() % 64, 1);
        window.close(seconds(1));
        if (half == 0) window.mark_placed();
      }
      sum += window.drift();
    }
    EXPECT_LT(sum / 50, 0.01) << pairs << " pairs";
  }
}

TEST(DriftTriggerTest, AsksOnceWhenALossLasts) {
  DriftTrigger trigger;
  EXPECT_FALSE(trigger.observe(9, 1));  // nothing was planned yet
  trigger.planned(1.05);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(trigger.observe(1.5, 0.2)) << "it rests";
  EXPECT_FALSE(trigger.observe(1.5, 0.2));
  EXPECT_FALSE(trigger.observe(1.5, 0.2));
  EXPECT_FALSE(trigger.observe(1.1, 0.2)) << "a window that is fine";
  EXPECT_FALSE(trigger.observe(1.5, 0.2));
  EXPECT_FALSE(trigger.observe(1.5, 0.001)) << "unbalanced, but as it was";
  EXPECT_FALSE(trigger.observe(1.5, 0.2));
  EXPECT_FALSE(trigger.observe(1.5, 0.2));
  EXPECT_TRUE(trigger.observe(1.5, 0.2));
  EXPECT_FALSE(trigger.observe(1.5, 0.2)) << "it has asked";
}

TEST(DriftTriggerTest, ALoadThatCannotBeBalancedPlansOnce) {
  DriftTrigger trigger;
  trigger.planned(1);
  int plans = 0;
  for (int i = 0; i < 100; ++i) {
    if (!trigger.observe(3, 0.5)) continue;
    ++plans;
    trigger.planned(3);
  }
  EXPECT_EQ(plans, 1);
}

}  // namespace
}  // namespace conclave::placement
