// Packing against the plain description of the layouts: one value after the other, as slow as it is
// easy to compare with layout.hpp.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "conclave/kernels/packed_matrix.hpp"
#include "layout.hpp"

namespace conclave::kernels {
namespace {

using gguf::BlockType;
namespace L = layout;

// Where value `input` (0..31) of output `lane` stands in the 8 groups of a sub block.
constexpr std::size_t place(std::size_t lane, std::size_t input) {
  return (input / 4) * L::kGroupBytes + lane * 4 + input % 4;
}

// Adds a 4-bit value to the paired nibble groups.
void put_nibble(std::uint8_t* quants, std::size_t lane, std::size_t input, unsigned value) {
  const std::size_t at = place(lane, input % 16);
  quants[at] = static_cast<std::uint8_t>(quants[at] | (value << (input < 16 ? 0 : 4)));
}

void put_half(std::uint8_t* halves, std::size_t lane, const std::uint8_t* source) {
  std::memcpy(halves + 2 * lane, source, 2);
}

// One source block of one output into its super. `block` is the file's bytes, `super` is zeroed.
void pack_q8_0(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  put_half(super + L::Q8::kScales, lane, block);
  for (std::size_t i = 0; i < 32; ++i) {
    super[L::Q8::kQuants + place(lane, i)] = static_cast<std::uint8_t>(block[2 + i] ^ 0x80u);
  }
}

// ggml keeps inputs 0..15 of a 32-block in the low nibbles of its 16 bytes, 16..31 in the high.
void pack_nibbles(const std::uint8_t* bytes, std::uint8_t* quants, std::size_t lane) {
  for (std::size_t i = 0; i < 16; ++i) {
    put_nibble(quants, lane, i, bytes[i] & 15u);
    put_nibble(quants, lane, i + 16, bytes[i] >> 4u);
  }
}

void pack_q4_0(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  put_half(super + L::Q4::kScales, lane, block);
  pack_nibbles(block + 2, super + L::Q4::kQuants, lane);
}

void pack_mxfp4(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  super[L::Mxfp4::kScales + lane] = block[0];
  pack_nibbles(block + 1, super + L::Mxfp4::kQuants, lane);
}

struct ScaleMin {
  std::uint8_t scale;
  std::uint8_t min;
};

// The 6-bit scale and min of sub block j, as Q4_K and Q5_K pack them in 12 bytes.
ScaleMin scale_min(const std::uint8_t* packed, std::size_t j) {
  const auto bits = [&](std::size_t at, unsigned shift, unsigned mask) {
    return (unsigned{packed[at]} >> shift) & mask;
  };
  const auto byte = [](unsigned value) { return static_cast<std::uint8_t>(value); };
  if (j < 4) return {byte(bits(j, 0, 63)), byte(bits(j + 4, 0, 63))};
  return {byte(bits(j + 4, 0, 15) | bits(j - 4, 6, 3) << 4),
          byte(bits(j + 4, 4, 15) | bits(j, 6, 3) << 4)};
}

// Q4_K and Q5_K share all but the fifth bits. Nibbles: each 32 bytes hold two sub blocks, the even
// one low, the odd one high.
template <class K>
void pack_k(const std::uint8_t* block, const std::uint8_t* nibbles, std::uint8_t* super,
            std::size_t lane) {
  put_half(super + K::kD, lane, block);
  put_half(super + K::kMin, lane, block + 2);
  for (std::size_t j = 0; j < 8; ++j) {
    std::uint8_t* sub = super + K::kSub + j * K::kSubBytes;
    const ScaleMin scales = scale_min(block + 4, j);
    super[K::kScales + 16 * j + lane] = scales.scale;
    super[K::kMins + 16 * j + lane] = scales.min;
    const std::uint8_t* bytes = nibbles + 32 * (j / 2);
    for (std::size_t i = 0; i < 32; ++i) {
      put_nibble(sub, lane, i, j % 2 == 0 ? bytes[i] & 15u : bytes[i] >> 4u);
    }
  }
}

void pack_q4_k(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  pack_k<L::Q4K>(block, block + 16, super, lane);
}

void pack_q5_k(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  pack_k<L::Q5K>(block, block + 48, super, lane);
  const std::uint8_t* high = block + 16;  // bit j of byte i: fifth bit of input i of sub block j
  for (std::size_t j = 0; j < 8; ++j) {
    std::uint8_t* bits = super + L::Q5K::kSub + j * L::Q5K::kSubBytes + L::Q5K::kSubHigh;
    for (std::size_t i = 0; i < 32; ++i) {
      const unsigned bit = (high[i] >> j) & 1u;
      std::uint8_t& byte = bits[4 * lane + i % 4];
      byte = static_cast<std::uint8_t>(byte | (bit << (i / 4)));
    }
  }
}

// Q6_K: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d. Each half of 128
// inputs has four quarters of 32: quarters 0 and 1 in the low nibbles of 64 bytes, 2 and 3 in the
// high ones; the high bits of all four quarters share one byte.
void pack_q6_k(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  const std::uint8_t* low = block;
  const std::uint8_t* high = block + 128;
  const std::uint8_t* scales = block + 192;
  put_half(super + L::Q6K::kD, lane, block + 208);
  for (std::size_t j = 0; j < 8; ++j) {
    std::uint8_t* sub = super + L::Q6K::kSub + j * L::Q6K::kSubBytes;
    super[L::Q6K::kScales + 32 * j + lane] = scales[2 * j];
    super[L::Q6K::kScales + 32 * j + 16 + lane] = scales[2 * j + 1];
    const std::size_t half = j / 4;
    const std::size_t quarter = j % 4;
    for (std::size_t i = 0; i < 32; ++i) {
      const unsigned byte = low[64 * half + 32 * (quarter % 2) + i];
      // Inputs 8 to 15 of each 16 stand beside inputs 0 to 7: what others have at 16 to 31.
      const std::size_t place = i / 16 * 8 + i % 8 + (i % 16 < 8 ? 0 : 16);
      put_nibble(sub, lane, place, quarter < 2 ? byte & 15u : byte >> 4u);
      const unsigned pair = (high[32 * half + i] >> (2 * quarter)) & 3u;
      std::uint8_t& out = sub[L::Q6K::kSubHigh + L::kGroupBytes * (i / 16) + 4 * lane + i % 4];
      out = static_cast<std::uint8_t>(out | (pair << (2 * (i % 16 / 4))));
    }
  }
}

// A float value of `size` bytes is a block of one input.
template <std::size_t kSize>
void pack_float(const std::uint8_t* block, std::uint8_t* super, std::size_t lane) {
  std::memcpy(super + kSize * lane, block, kSize);
}

struct Packer {
  void (*pack)(const std::uint8_t* block, std::uint8_t* super, std::size_t lane);
  std::size_t super_bytes;
};

Packer packer(BlockType type) {
  switch (type) {
    case BlockType::kF32:
      return {pack_float<4>, 4 * L::kLanes};
    case BlockType::kF16:
    case BlockType::kBF16:
      return {pack_float<2>, 2 * L::kLanes};
    case BlockType::kQ8_0:
      return {pack_q8_0, L::Q8::kBytes};
    case BlockType::kQ4_0:
      return {pack_q4_0, L::Q4::kBytes};
    case BlockType::kMXFP4:
      return {pack_mxfp4, L::Mxfp4::kBytes};
    case BlockType::kQ4_K:
      return {pack_q4_k, L::Q4K::kBytes};
    case BlockType::kQ5_K:
      return {pack_q5_k, L::Q5K::kBytes};
    case BlockType::kQ6_K:
      return {pack_q6_k, L::Q6K::kBytes};
  }
  return {};
}

std::vector<std::byte> random_bytes(std::size_t count) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

std::vector<std::uint8_t> plain_panels(BlockType type, const std::vector<std::byte>& data,
                                       std::size_t outputs, std::size_t inputs) {
  const gguf::BlockTraits block = gguf::traits(type);
  const Packer packing = packer(type);
  const std::size_t supers = inputs / block.elements;
  const std::size_t panel_bytes = supers * packing.super_bytes;
  std::vector<std::uint8_t> panels((outputs + 15) / 16 * panel_bytes);
  const auto* source = reinterpret_cast<const std::uint8_t*>(data.data());
  for (std::size_t output = 0; output < outputs; ++output) {
    for (std::size_t i = 0; i < supers; ++i, source += block.bytes) {
      packing.pack(source, panels.data() + output / 16 * panel_bytes + i * packing.super_bytes,
                   output % 16);
    }
  }
  return panels;
}

std::vector<std::uint8_t> bytes_of(const PackedMatrix& matrix) {
  return {matrix.panel(0), matrix.panel(0) + matrix.bytes()};
}

class PackTest : public testing::TestWithParam<BlockType> {
 protected:
  static constexpr std::size_t kOutputs = 37;  // two panels and a part of one
  static std::size_t inputs() { return gguf::traits(GetParam()).elements == 1 ? 77 : 768; }

  const std::vector<std::byte> data =
      random_bytes(gguf::bytes_of(GetParam(), kOutputs* inputs()).value());
};

TEST_P(PackTest, WritesWhatThePlainPackerWrites) {
  const auto matrix = PackedMatrix::pack(GetParam(), data, kOutputs, inputs());
  ASSERT_TRUE(matrix) << matrix.error().to_string();
  EXPECT_EQ(bytes_of(*matrix), plain_panels(GetParam(), data, kOutputs, inputs()));
  EXPECT_EQ(matrix->bytes(), packed_bytes(GetParam(), kOutputs, inputs()));
}

TEST_P(PackTest, PanelsCanBeFilledApartAndInAnyOrder) {
  base::Arena arena(0);
  auto matrix = PackedMatrix::create(GetParam(), kOutputs, inputs(), arena);
  ASSERT_TRUE(matrix) << matrix.error().to_string();
  const std::size_t row_bytes = data.size() / kOutputs;
  const std::span<const std::byte> rows(data);
  matrix->fill(2, rows.subspan(32 * row_bytes));
  matrix->fill(0, rows.first(16 * row_bytes));
  matrix->fill(1, rows.subspan(16 * row_bytes, 16 * row_bytes));
  EXPECT_EQ(bytes_of(*matrix), plain_panels(GetParam(), data, kOutputs, inputs()));
}

TEST_P(PackTest, RefusesToFillWhatIsNoRunOfPanels) {
  base::Arena arena(0);
  PackedMatrix matrix = PackedMatrix::create(GetParam(), kOutputs, inputs(), arena).value();
  const std::size_t row_bytes = data.size() / kOutputs;
  const std::span<const std::byte> rows(data);
  EXPECT_DEATH(matrix.fill(0, rows.first(8 * row_bytes)), "");
  EXPECT_DEATH(matrix.fill(0, rows.first(16 * row_bytes - 1)), "");
  EXPECT_DEATH(matrix.fill(1, rows), "");
  EXPECT_DEATH(matrix.fill(4, rows.first(16 * row_bytes)), "");
}

INSTANTIATE_TEST_SUITE_P(Types, PackTest, testing::ValuesIn(gguf::kBlockTypes),
                         [](const auto& instance) {
                           return std::string(gguf::traits(instance.param).name);
                         });

TEST(PackedBytesTest, AreNoneForSizesThatNoMatrixHas) {
  EXPECT_EQ(packed_bytes(BlockType::kQ8_0, 16, 64), 16u * 2 * 34);
  EXPECT_EQ(packed_bytes(BlockType::kQ8_0, 17, 64), 2u * 16 * 2 * 34);
  EXPECT_EQ(packed_bytes(BlockType::kQ8_0, 16, 33), std::nullopt);
  EXPECT_EQ(packed_bytes(BlockType::kQ8_0, 0, 32), std::nullopt);
  EXPECT_EQ(packed_bytes(BlockType::kF32, 4, 0), std::nullopt);
  EXPECT_EQ(packed_bytes(BlockType::kF32, ~std::size_t{0}, 1024), std::nullopt);
}

}  // namespace
}  // namespace conclave::kernels
