#include "bench_statistics.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace conclave::cli {
namespace {

TEST(QuantileTest, LiesOnALineBetweenNeighbours) {
  const std::vector<double> values{10.0, 20.0, 40.0};
  EXPECT_DOUBLE_EQ(quantile(values, 0.0), 10.0);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 20.0);
  EXPECT_DOUBLE_EQ(quantile(values, 0.75), 30.0);
  EXPECT_DOUBLE_EQ(quantile(values, 1.0), 40.0);
}

TEST(QuantileTest, OfOneValueIsThatValue) {
  EXPECT_DOUBLE_EQ(quantile(std::vector<double>{7.0}, 0.99), 7.0);
}

TEST(SpreadTest, OfAnEvenCountTakesTheMiddleOfTwo) {
  const Spread spread = spread_of(std::vector<double>{4.0, 1.0, 2.0, 9.0});
  EXPECT_DOUBLE_EQ(spread.median, 3.0);
  EXPECT_DOUBLE_EQ(spread.least, 1.0);
  EXPECT_DOUBLE_EQ(spread.most, 9.0);
}

TEST(SpreadTest, OfNothingIsZero) {
  EXPECT_DOUBLE_EQ(spread_of({}).median, 0.0);
  EXPECT_DOUBLE_EQ(distribution_of({}).p99, 0.0);
}

TEST(DistributionTest, IsThatOfTheValuesInAnyOrder) {
  std::vector<double> values(101);
  std::iota(values.rbegin(), values.rend(), 0.0);
  const Distribution found = distribution_of(values);
  EXPECT_DOUBLE_EQ(found.mean, 50.0);
  EXPECT_DOUBLE_EQ(found.p50, 50.0);
  EXPECT_DOUBLE_EQ(found.p90, 90.0);
  EXPECT_DOUBLE_EQ(found.p99, 99.0);
  EXPECT_DOUBLE_EQ(found.most, 100.0);
}

}  // namespace
}  // namespace conclave::cli
