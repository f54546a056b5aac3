// The kernels over rows of scores against plain loops, and the same bits on every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Lengths around a register's values, a block of maxima (64) and a block of masses (256).
constexpr std::size_t kLengths[] = {1, 7, 16, 17, 63, 64, 65, 255, 256, 257, 1000};

std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

class LogitKernelTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supported(GetParam())) GTEST_SKIP() << "this machine has no " << to_string(GetParam());
  }
  [[nodiscard]] const KernelTable& kernels() const { return kernel_table(GetParam()); }
  [[nodiscard]] static const KernelTable& scalar() { return kernel_table(Isa::kScalar); }

  [[nodiscard]] std::vector<float> maxima_of(const std::vector<float>& x) const {
    std::vector<float> maxima((x.size() + kMaximaBlock - 1) / kMaximaBlock);
    EXPECT_TRUE(kernels().block_maxima(x.data(), x.size(), maxima.data(), nullptr));
    return maxima;
  }
};

TEST_P(LogitKernelTest, BlockMaximaAreThoseOfEach64ValuesAndTheCopyIsOne) {
  for (const std::size_t n : kLengths) {
    auto x = random_values(n, 1);
    for (float& value : x) value -= 20.0f;  // below what any padding would bring
    const auto maxima = maxima_of(x);
    for (std::size_t block = 0; block < maxima.size(); ++block) {
      const std::size_t end = std::min(n, (block + 1) * kMaximaBlock);
      const float* begin = x.data() + block * kMaximaBlock;
      EXPECT_EQ(maxima[block], *std::max_element(begin, static_cast<const float*>(x.data()) + end));
    }
    std::vector<float> copy(n);
    std::vector<float> same(maxima.size());
    EXPECT_TRUE(kernels().block_maxima(x.data(), n, same.data(), copy.data()));
    EXPECT_EQ(copy, x);
    EXPECT_EQ(same, maxima);
  }
}

TEST_P(LogitKernelTest, BlockMaximaTellInfinityAndNaNWhereverTheyStand) {
  for (const std::size_t n : {1u, 17u, 64u, 100u}) {
    for (std::size_t at = 0; at < n; ++at) {
      for (const float bad : {kInfinity, -kInfinity, kNan}) {
        auto x = random_values(n, 2);
        x[at] = bad;
        std::vector<float> maxima(2);
        std::vector<float> copy(n);
        EXPECT_FALSE(kernels().block_maxima(x.data(), n, maxima.data(), nullptr)) << n << ' ' << at;
        EXPECT_FALSE(kernels().block_maxima(x.data(), n, maxima.data(), copy.data()));
      }
    }
  }
  EXPECT_EQ(maxima_of({std::numeric_limits<float>::max()})[0], std::numeric_limits<float>::max());
}

TEST_P(LogitKernelTest, AtLeastTakesInOrderWhatReachesTheBound) {
  for (const std::size_t n : kLengths) {
    const auto x = random_values(n, 3);
    for (const float least : {-1e30f, -2.0f, x[n / 2], 4.0f, 1e30f}) {
      std::vector<std::int32_t> ids(n + 16, -1);
      std::vector<float> values(n + 16);
      const std::size_t count =
          kernels().at_least(x.data(), n, maxima_of(x).data(), least, ids.data(), values.data());
      std::size_t expected = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (x[i] < least) continue;
        ASSERT_LT(expected, count);
        EXPECT_EQ(ids[expected], static_cast<std::int32_t>(i));
        EXPECT_EQ(values[expected], x[i]);
        ++expected;
      }
      EXPECT_EQ(count, expected);
    }
  }
}

TEST_P(LogitKernelTest, ScaledExponentialsEqualTheirFormulaAndTheOtherSets) {
  for (const std::size_t n : kLengths) {
    auto x = random_values(n, 4);
    x[n - 1] = -kInfinity;  // a token that is blocked
    for (const float divisor : {1.0f, 0.7f}) {
      std::vector<float> out(n + 1, 5.0f);
      std::vector<float> same(n);
      kernels().exp_scaled(x.data(), n, 1.5f, divisor, out.data());
      scalar().exp_scaled(x.data(), n, 1.5f, divisor, same.data());
      EXPECT_EQ(out[n], 5.0f);
      for (std::size_t i = 0; i < n; ++i) {
        const double exact = std::exp((double{x[i]} - 1.5) / double{divisor});
        EXPECT_NEAR(out[i], exact, 2e-6 * exact + 2e-38);
        EXPECT_EQ(out[i], same[i]);
      }
    }
  }
}

TEST_P(LogitKernelTest, MassesSumTheScaledExponentialsOfEach256Values) {
  for (const std::size_t n : kLengths) {
    const auto x = random_values(n, 5);
    std::vector<float> p(n);
    kernels().exp_scaled(x.data(), n, 0.5f, 1.3f, p.data());
    std::vector<double> masses((n + kMassBlock - 1) / kMassBlock);
    std::vector<double> same(masses.size());
    kernels().exp_masses(x.data(), n, 0.5f, 1.3f, masses.data());
    scalar().exp_masses(x.data(), n, 0.5f, 1.3f, same.data());
    for (std::size_t block = 0; block < masses.size(); ++block) {
      const auto first = p.begin() + static_cast<std::ptrdiff_t>(block * kMassBlock);
      const auto last =
          p.begin() + static_cast<std::ptrdiff_t>(std::min(n, (block + 1) * kMassBlock));
      const double expected = std::accumulate(first, last, 0.0);
      EXPECT_NEAR(masses[block] / expected, 1.0, 1e-14);
      EXPECT_EQ(masses[block], same[block]);
    }
  }
}

TEST_P(LogitKernelTest, TopKIsTheHeadOfAStableSort) {
  std::mt19937 random(6);
  for (const std::size_t n : {1u, 15u, 16u, 17u, 64u, 100u, 384u}) {
    for (const bool ties : {false, true}) {
      auto scores = random_values(n, static_cast<unsigned>(n));
      if (ties) {
        for (float& score : scores) score = random() % 2 == 0 ? 0.0f : -0.0f;  // equals
        for (std::size_t i = 0; i < n; i += 3) scores[i] = static_cast<float>(random() % 3) - 1.0f;
      }
      std::vector<std::uint32_t> order(n);
      std::iota(order.begin(), order.end(), 0u);
      std::stable_sort(order.begin(), order.end(),
                       [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b]; });
      for (const std::size_t k : {std::size_t{1}, n / 2, n}) {
        std::vector<std::int64_t> room((n + 15) / 16 * 16);
        std::vector<std::uint32_t> best(k);
        kernels().top_k(scores.data(), n, k, room.data(), best.data());
        EXPECT_TRUE(std::equal(best.begin(), best.end(), order.begin())) << n << ' ' << k;
      }
    }
  }
}

TEST_P(LogitKernelTest, TopKTakesEachPlaceOnceWhateverTheScores) {
  std::vector<float> scores{kNan, -kNan, kInfinity, -kInfinity, kNan, 0.0f};
  std::vector<std::int64_t> room(16);
  std::vector<std::uint32_t> best(6);
  kernels().top_k(scores.data(), 6, 6, room.data(), best.data());
  std::sort(best.begin(), best.end());
  EXPECT_EQ(best, (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5}));
}

INSTANTIATE_TEST_SUITE_P(Isas, LogitKernelTest, testing::ValuesIn(kIsas), [](const auto& instance) {
  return std::string(to_string(instance.param));
});

}  // namespace
}  // namespace conclave::kernels
