#include "best_first.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>

namespace conclave::engine {
namespace {

struct BestFirstTest : testing::Test {
  BestFirst best_first;
  std::mt19937 random{9};

  // Every bound in steps, against a sort. Weights are whole numbers, so that sums have no rounding.
  void expect_as_sorted(const std::vector<float>& logits, const std::string& what) {
    std::vector<float> weights(logits.size());
    for (float& weight : weights) weight = static_cast<float>(1 + random() % 5);
    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    best_first.load(logits, weights);
    double sum = 0.0;
    const std::size_t step = 1 + logits.size() / 97;
    for (std::size_t rank = 0; rank < order.size(); ++rank) {
      const double before = sum;
      sum += double{weights[order[rank]]};
      if (rank % step != 0 && rank + 1 != order.size()) continue;
      for (const double bound : {before + 0.5, sum}) {
        const auto place = best_first.find(bound);
        ASSERT_EQ(place.index, order[rank]) << what << ' ' << rank;
        ASSERT_EQ(place.sum, sum) << what << ' ' << rank;
      }
    }
    EXPECT_EQ(best_first.find(sum + 1.0).index, order.back()) << what;
    EXPECT_EQ(best_first.find(0.0).index, order.front()) << what;
  }

  std::vector<float> normal(std::size_t count, float spread) {
    std::normal_distribution<float> values(0.0f, spread);
    std::vector<float> out(count);
    for (float& value : out) value = values(random);
    return out;
  }
};

TEST_F(BestFirstTest, FindsWhatASortWouldFind) {
  for (const std::size_t count : {1u, 2u, 64u, 65u, 1000u, 20000u}) {
    expect_as_sorted(normal(count, 2.0f), "normal " + std::to_string(count));
  }
}

TEST_F(BestFirstTest, EqualLogitsGoByIndex) {
  auto few = normal(5000, 1.0f);
  for (float& value : few) value = std::round(value);
  expect_as_sorted(few, "few values");
  expect_as_sorted(std::vector<float>(5000, -3.0f), "one value");
}

TEST_F(BestFirstTest, AnOutlierDoesNotHideTheRest) {
  for (const float outlier : {1e3f, 1e30f, std::numeric_limits<float>::max()}) {
    auto logits = normal(5000, 1.0f);
    logits[77] = outlier;
    expect_as_sorted(logits, "above");
    logits[123] = -outlier;
    expect_as_sorted(logits, "above and below");
  }
}

TEST_F(BestFirstTest, AnyRangeOfFloatsWillDo) {
  std::vector<float> powers;
  for (int e = -148; e <= 127; ++e) {
    powers.push_back(std::ldexp(1.0f, e));
    powers.push_back(-powers.back());
  }
  expect_as_sorted(powers, "powers of two");
  std::vector<float> smallest;
  for (int i = 0; i < 300; ++i) {
    smallest.push_back(static_cast<float>(i % 150) * std::numeric_limits<float>::denorm_min());
  }
  expect_as_sorted(smallest, "denormals");
}

TEST_F(BestFirstTest, TheSameObjectServesRowAfterRow) {
  for (const std::size_t count : {3000u, 10u, 2000u, 64u}) {
    expect_as_sorted(normal(count, 1.0f), std::to_string(count));
  }
}

}  // namespace
}  // namespace conclave::engine
