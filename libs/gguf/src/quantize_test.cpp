#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "conclave/gguf/block_type.hpp"
#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using base::ErrorCode;
using test::Bytes;

Bytes encode(BlockType type, const std::vector<float>& values) {
  Bytes out(*bytes_of(type, values.size()));
  const auto status = quantize(type, values, out);
  EXPECT_TRUE(status) << status.error().to_string();
  return out;
}

std::vector<float> noise(std::size_t count) {
  const Bytes bytes = test::pattern(2 * count, 11);
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) {
    const int raw =
        std::to_integer<int>(bytes[2 * i]) * 256 + std::to_integer<int>(bytes[2 * i + 1]);
    values.push_back(static_cast<float>(raw - 32768) / 9999.0f);
  }
  return values;
}

TEST(QuantizeTest, Q8_0BytesByHand) {
  std::vector<float> values(32, 0.0f);
  values[0] = -127.0f;  // so d = 1
  values[1] = 2.5f;     // halves go away from zero
  values[2] = -2.5f;
  values[3] = 0.49f;
  values[31] = 127.0f;

  const Bytes block = encode(BlockType::kQ8_0, values);

  Bytes expected(34);
  expected[1] = std::byte{0x3C};  // 1.0 as f16 is 0x3C00
  expected[2] = std::byte{0x81};
  expected[3] = std::byte{3};
  expected[4] = std::byte{0xFD};
  expected[33] = std::byte{127};
  EXPECT_EQ(block, expected);
}

TEST(QuantizeTest, Q4_0BytesByHand) {
  std::vector<float> values(32, 0.0f);
  values[0] = 8.0f;  // the largest magnitude becomes -8 times d = -1
  values[1] = -7.0f;
  values[2] = -8.0f;   // as large, but later: would be 16, clamped to 15
  values[16] = -0.5f;  // 9.0 exactly
  values[17] = 0.5f;

  const Bytes block = encode(BlockType::kQ4_0, values);

  Bytes expected(18, std::byte{0x88});
  expected[0] = std::byte{0x00};
  expected[1] = std::byte{0xBC};  // -1.0 as f16 is 0xBC00
  expected[2] = std::byte{0x90};
  expected[3] = std::byte{0x8F};
  expected[4] = std::byte{0x8F};
  EXPECT_EQ(block, expected);
}

TEST(QuantizeTest, ErrorStaysWithinHalfAStep) {
  const auto values = noise(32 * 64);
  for (const BlockType type : {BlockType::kQ8_0, BlockType::kQ4_0}) {
    std::vector<float> back(values.size());
    dequantize(type, encode(type, values), back);
    for (std::size_t b = 0; b < 64; ++b) {
      float magnitude_max = 0;
      for (std::size_t i = 0; i < 32; ++i) {
        magnitude_max = std::max(magnitude_max, std::fabs(values[32 * b + i]));
      }
      // Q4_0 reaches -8..7 steps: the value opposite to the largest may be one step away. The f16
      // scale adds up to 2^-11 of the value.
      const float step = type == BlockType::kQ8_0 ? magnitude_max / 127 : magnitude_max / 8;
      const float bound = (type == BlockType::kQ8_0 ? 0.5f : 1.0f) * step;
      for (std::size_t i = 0; i < 32; ++i) {
        EXPECT_LE(std::fabs(values[32 * b + i] - back[32 * b + i]), bound + magnitude_max / 2048)
            << traits(type).name;
      }
    }
  }
}

TEST(QuantizeTest, HalvesRoundToNearestEven) {
  EXPECT_EQ(encode(BlockType::kF16, {1.0f, 65520.0f}),
            (Bytes{std::byte{0}, std::byte{0x3C}, std::byte{0}, std::byte{0x7C}}));
  EXPECT_EQ(encode(BlockType::kBF16, {1.0f, -INFINITY}),
            (Bytes{std::byte{0x80}, std::byte{0x3F}, std::byte{0x80}, std::byte{0xFF}}));
  std::vector<float> back(2);
  dequantize(BlockType::kF32, encode(BlockType::kF32, {0.1f, -3.0f}), back);
  EXPECT_EQ(back, (std::vector<float>{0.1f, -3.0f}));
}

TEST(QuantizeTest, ZeroAndVanishingBlocksBecomeZero) {
  const std::vector<float> zero(32, 0.0f);
  EXPECT_EQ(encode(BlockType::kQ8_0, zero), Bytes(34));
  Bytes expected(18, std::byte{0x88});
  expected[0] = expected[1] = std::byte{0};
  // 0 / -8 is -0: ggml stores the sign too.
  expected[1] = std::byte{0x80};
  EXPECT_EQ(encode(BlockType::kQ4_0, zero), expected);
  const std::vector<float> vanishing(32, std::numeric_limits<float>::denorm_min() * 128);
  std::vector<float> back(32);
  for (const BlockType type : {BlockType::kQ8_0, BlockType::kQ4_0}) {
    dequantize(type, encode(type, vanishing), back);
    EXPECT_EQ(back, zero);
  }
}

TEST(QuantizeTest, RefusesWhatHasNoQuantisedForm) {
  std::vector<float> values(32, 1.0f);
  Bytes out(34);
  values[7] = NAN;
  auto status = quantize(BlockType::kQ8_0, values, out);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(status.error().message.find("value 7"), std::string::npos);
  values[7] = INFINITY;
  EXPECT_EQ(quantize(BlockType::kQ8_0, values, out).error().code, ErrorCode::kInvalidArgument);
  values[7] = 0;
  EXPECT_EQ(quantize(BlockType::kQ8_0, values, std::span(out).first(33)).error().code,
            ErrorCode::kInvalidArgument);
  const std::vector<float> super_block(256, 1.0f);
  for (const BlockType type : {BlockType::kQ4_K, BlockType::kQ5_K, BlockType::kQ6_K}) {
    Bytes block(*bytes_of(type, 256));
    EXPECT_EQ(quantize(type, super_block, block).error().code, ErrorCode::kUnimplemented);
  }
}

}  // namespace
}  // namespace conclave::gguf
