#include "conclave/gguf/block_type.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace conclave::gguf {
namespace {

TEST(BlockTypeTest, KnowsTheSizesOfEveryFormat) {
  EXPECT_EQ(bytes_of(BlockType::kF32, 3), 12u);
  EXPECT_EQ(bytes_of(BlockType::kF16, 3), 6u);
  EXPECT_EQ(bytes_of(BlockType::kBF16, 3), 6u);
  EXPECT_EQ(bytes_of(BlockType::kQ8_0, 64), 68u);
  EXPECT_EQ(bytes_of(BlockType::kQ4_0, 64), 36u);
  EXPECT_EQ(bytes_of(BlockType::kQ4_K, 512), 288u);
  EXPECT_EQ(bytes_of(BlockType::kQ5_K, 256), 176u);
  EXPECT_EQ(bytes_of(BlockType::kQ6_K, 256), 210u);
  EXPECT_EQ(bytes_of(BlockType::kMXFP4, 32), 17u);
}

TEST(BlockTypeTest, RefusesPartialBlocksAndOverflow) {
  EXPECT_EQ(bytes_of(BlockType::kQ8_0, 33), std::nullopt);
  EXPECT_EQ(bytes_of(BlockType::kQ4_K, 128), std::nullopt);
  EXPECT_EQ(bytes_of(BlockType::kF32, std::uint64_t{1} << 62), std::nullopt);
  EXPECT_EQ(bytes_of(BlockType::kF32, 0), 0u);
}

TEST(BlockTypeTest, NamesEveryIdAsGgmlDoes) {
  for (const BlockType type : kBlockTypes) {
    const auto id = static_cast<std::uint32_t>(type);
    EXPECT_EQ(type_name(id), traits(type).name);
    EXPECT_EQ(block_type_from_id(id), type);
  }
  EXPECT_EQ(type_name(3), "Q4_1");
  EXPECT_EQ(type_name(17), "IQ2_XS");
  EXPECT_EQ(type_name(29), "IQ1_M");
  EXPECT_EQ(type_name(38), "IQ4_NL_8_8");
  EXPECT_EQ(type_name(41), "Q1_0");
  EXPECT_EQ(type_name(42), "type 42");
  EXPECT_EQ(block_type_from_id(3), std::nullopt);
  EXPECT_EQ(block_type_from_id(99), std::nullopt);
}

// The value of an f16 by its definition, in double.
double f16_by_definition(std::uint16_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(HalfTest, EveryF16WidensExactlyAndComesBack) {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const double expected = f16_by_definition(bits);
    const float value = f16_to_f32(bits);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << i;
      EXPECT_EQ(f32_to_f16(value) & 0x7FFF, 0x7E00) << i;
      continue;
    }
    ASSERT_EQ(double{value}, expected) << i;
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0) << i;
    ASSERT_EQ(f32_to_f16(value), bits) << i;
  }
}

// Between neighbours the nearer wins, at the middle the even one: over all finite neighbours.
TEST(HalfTest, RoundsToNearestEvenEverywhere) {
  for (std::uint32_t i = 0; i < 0x7C00; ++i) {
    const auto low = static_cast<std::uint16_t>(i);
    const auto high = static_cast<std::uint16_t>(i + 1);
    // Above the largest finite value the neighbour would be 65536.
    const double above = i == 0x7BFF ? 65536.0 : f16_by_definition(high);
    const auto middle = static_cast<float>((f16_by_definition(low) + above) / 2);
    const std::uint16_t even = (low & 1) == 0 ? low : high;
    ASSERT_EQ(f32_to_f16(middle), even) << i;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), low) << i;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, INFINITY)), high) << i;
    ASSERT_EQ(f32_to_f16(-middle), even | 0x8000) << i;
  }
  EXPECT_EQ(f32_to_f16(1e30f), 0x7C00);
  EXPECT_EQ(f32_to_f16(-INFINITY), 0xFC00);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(f32_to_f16(-0.0f), 0x8000);
}

TEST(HalfTest, Bf16RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3F80);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808000u)), 0x3F80);  // a tie: to even
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F818000u)), 0x3F82);
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x3F808001u)), 0x3F81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(f32_to_bf16(-INFINITY), 0xFF80);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7F800001u)))));
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const float value = bf16_to_f32(static_cast<std::uint16_t>(i));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f32_to_bf16(value), i);
  }
}

}  // namespace
}  // namespace conclave::gguf
