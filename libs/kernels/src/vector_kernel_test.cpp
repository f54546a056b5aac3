// The vector kernels against double-precision formulas, and the same bits on every instruction set.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {
namespace {

// Lengths around the 16 values that all kernels work at a time.
constexpr std::size_t kLengths[] = {1, 5, 15, 16, 17, 31, 32, 100};

std::vector<float> random_values(std::size_t n, unsigned seed, float spread = 3.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

class VectorKernelTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!supported(GetParam())) GTEST_SKIP() << "this machine has no " << to_string(GetParam());
  }
  [[nodiscard]] const KernelTable& kernels() const { return kernel_table(GetParam()); }
  [[nodiscard]] static const KernelTable& scalar() { return kernel_table(Isa::kScalar); }
};

TEST_P(VectorKernelTest, ExpIsGoodToAFewUnitsInTheLastPlaceOverItsRange) {
  for (float x = -87.0f; x < 88.0f; x += 0.037f) {
    float value = x;
    kernels().exp_sum(&value, 1, 0.0f);
    ASSERT_NEAR(value / std::exp(double{x}), 1.0, 3e-7) << x;
    float reference = x;
    scalar().exp_sum(&reference, 1, 0.0f);
    ASSERT_EQ(value, reference) << x;
  }
}

TEST_P(VectorKernelTest, ExpSumEqualsTheSumAndKeepsNaN) {
  for (const std::size_t n : kLengths) {
    auto x = random_values(n, 3);
    auto same = x;
    double expected = 0.0;
    for (const float value : x) expected += std::exp(double{value} - 1.5);
    const float sum = kernels().exp_sum(x.data(), n, 1.5f);
    EXPECT_NEAR(sum / expected, 1.0, 2e-6);
    EXPECT_EQ(sum, scalar().exp_sum(same.data(), n, 1.5f));
    EXPECT_EQ(x, same);
  }
  float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(kernels().exp_sum(&nan, 1, 0.0f)));
}

TEST_P(VectorKernelTest, RmsNormEqualsItsFormula) {
  for (const std::size_t n : kLengths) {
    const auto x = random_values(n, 4);
    const auto weight = random_values(n, 5);
    std::vector<float> out(n);
    std::vector<float> same(n);
    kernels().rms_norm(x.data(), weight.data(), n, 1e-5f, out.data());
    scalar().rms_norm(x.data(), weight.data(), n, 1e-5f, same.data());
    double squares = 0.0;
    for (const float value : x) squares += double{value} * value;
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
    for (std::size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(out[i], x[i] * scale * weight[i], 2e-6 * std::abs(x[i] * weight[i]) + 1e-9);
    }
    EXPECT_EQ(out, same);
  }
}

TEST_P(VectorKernelTest, ActivationsEqualTheirFormulas) {
  const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  for (const std::size_t n : kLengths) {
    const auto gate = random_values(n, 6, 6.0f);
    const auto up = random_values(n, 7, 6.0f);
    auto swiglu = gate;
    kernels().swiglu(swiglu.data(), up.data(), n);
    auto clamped = gate;
    kernels().swiglu_clamped(clamped.data(), up.data(), n, 1.702f, 7.0f);
    auto plain = gate;
    kernels().sigmoid(plain.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      const double g = std::min(double{gate[i]}, 7.0);
      const double u = std::min(std::max(double{up[i]}, -7.0), 7.0);
      EXPECT_NEAR(swiglu[i], gate[i] * sigmoid(gate[i]) * up[i], 1e-5);
      EXPECT_NEAR(clamped[i], g * sigmoid(1.702 * g) * (u + 1.0), 2e-5);
      EXPECT_NEAR(plain[i], sigmoid(gate[i]), 1e-6);
    }
    auto same = gate;
    scalar().swiglu(same.data(), up.data(), n);
    EXPECT_EQ(swiglu, same);
    same = gate;
    scalar().swiglu_clamped(same.data(), up.data(), n, 1.702f, 7.0f);
    EXPECT_EQ(clamped, same);
    same = gate;
    scalar().sigmoid(same.data(), n);
    EXPECT_EQ(plain, same);
  }
}

TEST_P(VectorKernelTest, AxpyAndMax) {
  for (const std::size_t n : kLengths) {
    const auto x = random_values(n, 12);
    auto y = random_values(n, 13);
    auto same = y;
    const auto before = y;
    kernels().axpy(0.3f, x.data(), n, y.data());
    scalar().axpy(0.3f, x.data(), n, same.data());
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(y[i], std::fma(0.3f, x[i], before[i]));
    EXPECT_EQ(y, same);
    EXPECT_EQ(kernels().max(x.data(), n), *std::max_element(x.begin(), x.end()));
  }
}

struct Quantized {
  std::vector<std::int8_t> quants;
  std::vector<float> scales;
  std::vector<std::int32_t> offsets;
  std::vector<std::int32_t> half_offsets;
  std::vector<std::int16_t> sums;
  std::vector<std::uint8_t> wide;

  Quantized(const KernelTable& table, const std::vector<float>& x, std::size_t block)
      : quants(x.size()),
        scales(x.size() / 32),
        offsets(x.size() / 32),
        half_offsets(x.size() / 16),
        sums(x.size() / 32),
        wide(x.size() / 256) {
    table.quantize_row(x.data(), x.size(), block, quants.data(), scales.data(),
                       {offsets.data(), half_offsets.data(), sums.data(), wide.data()});
  }

  // Scales bit by bit: NaN is equal to itself.
  bool operator==(const Quantized& other) const {
    return quants == other.quants && offsets == other.offsets &&
           half_offsets == other.half_offsets && sums == other.sums && wide == other.wide &&
           std::memcmp(scales.data(), other.scales.data(), scales.size() * sizeof(float)) == 0;
  }
};

TEST_P(VectorKernelTest, QuantizedRowsAreWithinHalfAStepAndKnowTheirSums) {
  for (const std::size_t block : {32u, 256u}) {
    auto x = random_values((block == 32 ? 11 : 3) * block, 14);  // 8 blocks at once, and some
    std::fill(x.begin() + std::ptrdiff_t(block), x.begin() + std::ptrdiff_t(2 * block), 0.0f);
    const Quantized row(kernels(), x, block);
    EXPECT_TRUE(row == Quantized(scalar(), x, block));
    EXPECT_EQ(row.scales[block / 32], 0.0f);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float scale = row.scales[i / 32];
      EXPECT_EQ(scale, row.scales[i / block * block / 32]);
      EXPECT_NEAR(static_cast<float>(row.quants[i]) * scale, x[i], 0.5001f * scale);
    }
    for (std::size_t at = 0; at < x.size() / 32; ++at) {
      const std::int8_t* begin = row.quants.data() + at * 32;
      const int first = std::accumulate(begin, begin + 16, 0);
      const int later = std::accumulate(begin + 16, begin + 32, 0);
      EXPECT_EQ(row.offsets[at], -128 * (first + later));
      EXPECT_EQ(row.half_offsets[2 * at], -32 * first);
      EXPECT_EQ(row.half_offsets[2 * at + 1], -32 * later);
      EXPECT_EQ(row.sums[at], first + later);
    }
  }
}

TEST_P(VectorKernelTest, ABlockWithInfinityOrNaNShowsInItsScale) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::size_t block : {32u, 256u}) {
      std::vector<float> x(2 * block, 1.0f);
      x[block + 8] = bad;
      const Quantized row(kernels(), x, block);
      EXPECT_TRUE(row == Quantized(scalar(), x, block));
      EXPECT_EQ(row.quants[0], 127);
      for (std::size_t at = block / 32; at < x.size() / 32; ++at) {
        EXPECT_TRUE(std::isnan(row.scales[at]));
        EXPECT_EQ(row.sums[at], 0);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, VectorKernelTest, testing::ValuesIn(kIsas),
                         [](const auto& instance) {
                           return std::string(to_string(instance.param));
                         });

}  // namespace
}  // namespace conclave::kernels
