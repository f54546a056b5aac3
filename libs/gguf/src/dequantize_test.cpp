// Blocks are packed here from chosen scales and quants by the formats' descriptions, the other way
// round from the decoder, and values are expected by the plain formula of each format.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "conclave/gguf/block_type.hpp"
#include "test_files.hpp"

namespace conclave::gguf {
namespace {

using test::Bytes;

std::vector<float> decode(BlockType type, const Bytes& block, std::size_t elements) {
  std::vector<float> out(elements);
  dequantize(type, block, out);
  return out;
}

void append_f16(Bytes& block, float value) {
  const std::uint16_t bits = f32_to_f16(value);
  block.push_back(static_cast<std::byte>(bits & 0xFF));
  block.push_back(static_cast<std::byte>(bits >> 8));
}

void append(Bytes& block, unsigned value) { block.push_back(static_cast<std::byte>(value)); }

void set_bits(Bytes& block, std::size_t byte, unsigned value, unsigned shift) {
  block[byte] |= static_cast<std::byte>(value << shift);
}

TEST(DequantizeTest, FloatsOfSixteenAndThirtyTwoBits) {
  const Bytes f32 = {std::byte{0}, std::byte{0}, std::byte{0x20}, std::byte{0xC0}};
  EXPECT_EQ(decode(BlockType::kF32, f32, 1), std::vector<float>{-2.5f});
  const Bytes f16 = {std::byte{0}, std::byte{0xC1}, std::byte{1}, std::byte{0}};
  EXPECT_EQ(decode(BlockType::kF16, f16, 2), (std::vector<float>{-2.5f, 0x1p-24f}));
  const Bytes bf16 = {std::byte{0x20}, std::byte{0xC0}};
  EXPECT_EQ(decode(BlockType::kBF16, bf16, 1), std::vector<float>{-2.5f});
}

TEST(DequantizeTest, Q8_0IsScaleTimesInt8) {
  Bytes block;
  append_f16(block, 0.5f);
  for (unsigned i = 0; i < 32; ++i) append(block, (i * 8 - 128) & 0xFF);

  const auto values = decode(BlockType::kQ8_0, block, 32);

  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(values[static_cast<std::size_t>(i)], 0.5f * static_cast<float>(i * 8 - 128));
  }
}

TEST(DequantizeTest, Q4_0HasItsFirstHalfInLowNibbles) {
  Bytes block;
  append_f16(block, -0.25f);
  for (unsigned i = 0; i < 16; ++i) append(block, i | ((15 - i) << 4));

  const auto values = decode(BlockType::kQ4_0, block, 32);

  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(values[static_cast<std::size_t>(i)], -0.25f * static_cast<float>(i - 8));
    EXPECT_EQ(values[static_cast<std::size_t>(i + 16)], -0.25f * static_cast<float>(7 - i));
  }
}

TEST(DequantizeTest, Mxfp4CoversEveryCodeAndExponent) {
  const double grid[16] = {0,    0.5,  1,  1.5,  2,  3,  4,  6,  //
                           -0.0, -0.5, -1, -1.5, -2, -3, -4, -6};
  for (unsigned e = 0; e < 256; ++e) {
    Bytes block;
    append(block, e);
    for (unsigned i = 0; i < 16; ++i) append(block, i | ((15 - i) << 4));

    const auto values = decode(BlockType::kMXFP4, block, 32);

    for (std::size_t i = 0; i < 16; ++i) {
      const double scale = std::ldexp(1.0, static_cast<int>(e) - 127);
      EXPECT_EQ(values[i], static_cast<float>(grid[i] * scale)) << e;
      EXPECT_EQ(values[i + 16], static_cast<float>(grid[15 - i] * scale)) << e;
    }
  }
}

// What the K-quant blocks of 8 sub-blocks are made of, before packing.
struct SubBlocks {
  unsigned scales[8] = {};
  unsigned mins[8] = {};
  unsigned quants[256] = {};
};

SubBlocks choose(unsigned quant_mask) {
  SubBlocks s;
  const Bytes noise = test::pattern(256 + 16);
  for (std::size_t j = 0; j < 8; ++j) {
    s.scales[j] = std::to_integer<unsigned>(noise[256 + j]) & 63;
    s.mins[j] = std::to_integer<unsigned>(noise[264 + j]) & 63;
  }
  s.scales[1] = 63;  // extremes in both halves of the packing
  s.scales[6] = 63;
  s.mins[2] = 0;
  s.mins[7] = 63;
  for (std::size_t i = 0; i < 256; ++i) {
    s.quants[i] = std::to_integer<unsigned>(noise[i]) & quant_mask;
  }
  return s;
}

// 12 bytes: 8 pairs of 6-bit numbers.
void append_scales(Bytes& block, const SubBlocks& s) {
  const std::size_t at = block.size();
  block.resize(at + 12);
  for (std::size_t j = 0; j < 4; ++j) {
    set_bits(block, at + j, s.scales[j], 0);
    set_bits(block, at + 4 + j, s.mins[j], 0);
    set_bits(block, at + 8 + j, s.scales[4 + j] % 16, 0);
    set_bits(block, at + 8 + j, s.mins[4 + j] % 16, 4);
    set_bits(block, at + j, s.scales[4 + j] / 16, 6);
    set_bits(block, at + 4 + j, s.mins[4 + j] / 16, 6);
  }
}

// Elements 64c + i in the low and 64c + 32 + i in the high nibble of byte 32c + i.
void append_nibbles(Bytes& block, const SubBlocks& s) {
  for (std::size_t c = 0; c < 4; ++c) {
    for (std::size_t i = 0; i < 32; ++i) {
      append(block, (s.quants[64 * c + i] & 15) | ((s.quants[64 * c + 32 + i] & 15) << 4));
    }
  }
}

void expect_sub_blocks(const std::vector<float>& values, const SubBlocks& s, float d, float d_min) {
  for (std::size_t i = 0; i < 256; ++i) {
    // Products before the difference, each rounded once, as ggml does.
    const float scale = d * static_cast<float>(s.scales[i / 32]);
    const float min = d_min * static_cast<float>(s.mins[i / 32]);
    const float product = scale * static_cast<float>(s.quants[i]);
    EXPECT_EQ(values[i], product - min) << i;
  }
}

TEST(DequantizeTest, Q4_KIsScaleTimesQuantLessMinimum) {
  for (const float d : {0.5f, 0.0123f}) {
    const SubBlocks s = choose(15);
    Bytes block;
    append_f16(block, d);
    append_f16(block, -0.0371f);
    append_scales(block, s);
    append_nibbles(block, s);

    const auto values = decode(BlockType::kQ4_K, block, 256);

    expect_sub_blocks(values, s, f16_to_f32(f32_to_f16(d)), f16_to_f32(f32_to_f16(-0.0371f)));
  }
}

TEST(DequantizeTest, Q5_KHasItsFifthBitInAPlaneOfItsOwn) {
  const SubBlocks s = choose(31);
  Bytes block;
  append_f16(block, 0.0123f);
  append_f16(block, 0.0371f);
  append_scales(block, s);
  const std::size_t plane = block.size();
  block.resize(plane + 32);
  for (std::size_t i = 0; i < 256; ++i) {
    set_bits(block, plane + i % 32, s.quants[i] / 16, static_cast<unsigned>(i / 32));
  }
  append_nibbles(block, s);

  const auto values = decode(BlockType::kQ5_K, block, 256);

  expect_sub_blocks(values, s, f16_to_f32(f32_to_f16(0.0123f)), f16_to_f32(f32_to_f16(0.0371f)));
}

TEST(DequantizeTest, Q6_KIsScaleTimesInt8TimesQuant) {
  const SubBlocks s = choose(63);
  Bytes block(192);
  for (std::size_t i = 0; i < 256; ++i) {
    const std::size_t h = i / 128;
    const std::size_t run = i % 128 / 32;
    set_bits(block, 64 * h + 32 * (run % 2) + i % 32, s.quants[i] % 16, run < 2 ? 0 : 4);
    set_bits(block, 128 + 32 * h + i % 32, s.quants[i] / 16, static_cast<unsigned>(2 * run));
  }
  const Bytes scales = test::pattern(16, 7);
  block.insert(block.end(), scales.begin(), scales.end());
  append_f16(block, 0.0123f);

  const auto values = decode(BlockType::kQ6_K, block, 256);

  const float d = f16_to_f32(f32_to_f16(0.0123f));
  for (std::size_t i = 0; i < 256; ++i) {
    const auto scale = static_cast<std::int8_t>(scales[i / 16]);
    const float scaled = d * static_cast<float>(scale);
    EXPECT_EQ(values[i], scaled * (static_cast<float>(s.quants[i]) - 32.0f)) << i;
  }
}

TEST(DequantizeTest, DecodesManyBlocksAtAnyAlignment) {
  for (const BlockType type : kBlockTypes) {
    const std::size_t elements = 3 * std::size_t{traits(type).elements};
    const std::size_t size = *bytes_of(type, elements);
    const Bytes blocks = test::pattern(size, 3);
    Bytes shifted(1);
    shifted.insert(shifted.end(), blocks.begin(), blocks.end());

    std::vector<float> values(elements);
    dequantize(type, std::span(shifted).subspan(1), values);

    for (std::size_t b = 0; b < 3; ++b) {
      const auto block = std::span(blocks).subspan(b * size / 3, size / 3);
      const auto one = decode(type, Bytes(block.begin(), block.end()), elements / 3);
      EXPECT_EQ(0, std::memcmp(one.data(), values.data() + b * one.size(), 4 * one.size()));
    }
  }
}

TEST(DequantizeDeathTest, StopsOnSizesThatDoNotFit) {
  const Bytes block(34);
  std::vector<float> out(31);
  EXPECT_DEATH(dequantize(BlockType::kQ8_0, block, out), "check failed");
}

}  // namespace
}  // namespace conclave::gguf
