#include "bench_pacer.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace conclave::cli {
namespace {

std::vector<double> arrivals(const LoadPlan& plan) {
  std::vector<double> all;
  Pacer pacer(plan);
  while (const auto due = pacer.next_due(0.0)) {
    all.push_back(*due);
    pacer.sent();
  }
  return all;
}

TEST(PacerTest, WithoutARateEveryRequestIsDueAtOnce) {
  Pacer pacer({.connections = 4, .requests = 2});
  EXPECT_EQ(pacer.next_due(3.5), 3.5);
  pacer.sent();
  EXPECT_EQ(pacer.next_due(9.0), 9.0);
  pacer.sent();
  EXPECT_EQ(pacer.next_due(9.0), std::nullopt);
  EXPECT_EQ(pacer.count(), 2u);
}

TEST(PacerTest, NothingIsSentAfterTheTime) {
  Pacer pacer({.duration_s = 2.0});
  EXPECT_TRUE(pacer.next_due(1.999));
  EXPECT_FALSE(pacer.next_due(2.0));
}

TEST(PacerTest, ArrivalsComeAtTheRateAndAtRandomTimes) {
  constexpr double kRate = 50.0;
  constexpr std::size_t kCount = 20'000;
  const auto all = arrivals({.rate = kRate, .requests = kCount, .seed = 3});
  ASSERT_EQ(all.size(), kCount);
  // Gaps of a Poisson process: mean and deviation are both 1 / rate. The error of the mean of so
  // many is below 1 %, and 5 % is seven of them.
  double squares = 0.0;
  double before = 0.0;
  for (const double at : all) {
    ASSERT_GE(at, before);
    squares += (at - before - 1.0 / kRate) * (at - before - 1.0 / kRate);
    before = at;
  }
  EXPECT_NEAR(all.back() / kCount, 1.0 / kRate, 0.05 / kRate);
  EXPECT_NEAR(std::sqrt(squares / kCount), 1.0 / kRate, 0.05 / kRate);
}

TEST(PacerTest, TheSeedDecidesOnTheArrivals) {
  const LoadPlan plan{.rate = 10.0, .requests = 20, .seed = 1};
  LoadPlan other = plan;
  other.seed = 2;
  EXPECT_EQ(arrivals(plan), arrivals(plan));
  EXPECT_NE(arrivals(plan), arrivals(other));
}

TEST(PacerTest, ArrivalsEndWithTheTime) {
  const auto all = arrivals({.rate = 100.0, .duration_s = 5.0, .seed = 1});
  ASSERT_FALSE(all.empty());
  EXPECT_LT(all.back(), 5.0);
  EXPECT_NEAR(static_cast<double>(all.size()), 500.0, 150.0);
}

TEST(PacerTest, AnArrivalThatWasMissedIsStillDueThen) {
  Pacer pacer({.rate = 10.0, .requests = 5, .seed = 1});
  const auto due = pacer.next_due(0.0);
  ASSERT_TRUE(due);
  EXPECT_EQ(pacer.next_due(100.0), due);
}

}  // namespace
}  // namespace conclave::cli
