// Decoding of blocks. Each product and sum is rounded on its own in ggml's order, so values equal
// those of its reference dequantisers bit for bit.
#include <cstring>

#include "conclave/base/check.hpp"
#include "conclave/gguf/block_type.hpp"
#include "half.hpp"

namespace conclave::gguf {
namespace {

using Byte = std::uint8_t;

constexpr std::size_t kSuperBlock = 256;  // QK_K of ggml

float load_f16(const Byte* at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof bits);
  return half::from_f16(bits);
}

// in (32: elements 0..15 in low nibbles, 16..31 in high ones), out (32)
void decode_q4_0(const Byte* in, float* out) {
  const float d = load_f16(in);
  const Byte* quants = in + 2;
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((quants[i] & 0xF) - 8) * d;
    out[i + 16] = static_cast<float>((quants[i] >> 4) - 8) * d;
  }
}

void decode_q8_0(const Byte* in, float* out) {
  const float d = load_f16(in);
  for (std::size_t i = 0; i < 32; ++i) {
    out[i] = static_cast<float>(static_cast<std::int8_t>(in[2 + i])) * d;
  }
}

// The scale is 2^(e - 127). Values are kept doubled and the scale halved, which is exact and makes
// every e, also 0 (subnormal) and 255, decode as in ggml.
void decode_mxfp4(const Byte* in, float* out) {
  static constexpr std::array<float, 16> kDoubled = {0, 1,  2,  3,  4,  6,  8,  12,
                                                     0, -1, -2, -3, -4, -6, -8, -12};
  const std::uint32_t e = in[0];
  const std::uint32_t half_scale_bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
  const auto half_scale = std::bit_cast<float>(half_scale_bits);
  const Byte* quants = in + 1;
  for (std::size_t i = 0; i < 16; ++i) {
    out[i] = kDoubled[quants[i] & 0xF] * half_scale;
    out[i + 16] = kDoubled[quants[i] >> 4] * half_scale;
  }
}

struct ScaleMin {
  float scale = 0;
  float min = 0;
};

// The 6-bit scale and minimum of sub-block `j` (0..7) of Q4_K and Q5_K, packed in 12 bytes:
// bytes 0..3 and 4..7 hold those of sub-blocks 0..3 in their low 6 bits; bytes 8..11 hold the low
// 4 bits of both for sub-blocks 4..7, whose high 2 bits are on top of bytes 0..7.
ScaleMin scale_min(const Byte* packed, std::size_t j) {
  if (j < 4) {
    return {static_cast<float>(packed[j] & 63), static_cast<float>(packed[j + 4] & 63)};
  }
  return {static_cast<float>((packed[j + 4] & 0xF) | ((packed[j - 4] >> 6) << 4)),
          static_cast<float>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4))};
}

// 8 sub-blocks of 32; sub-blocks 2i and 2i+1 share 32 bytes of quants: low and high nibbles.
// `high` (32) adds bit 4 of element i of sub-block j from bit j of byte i; nullptr for Q4_K.
void decode_q4_q5_k(const Byte* in, const Byte* high, const Byte* quants, float* out) {
  const float d = load_f16(in);
  const float d_min = load_f16(in + 2);
  for (std::size_t j = 0; j < 8; ++j) {
    const ScaleMin packed = scale_min(in + 4, j);
    const float scale = d * packed.scale;
    const float min = d_min * packed.min;
    const Byte* q = quants + 32 * (j / 2);
    const unsigned nibble_shift = j % 2 == 0 ? 0 : 4;
    for (std::size_t i = 0; i < 32; ++i) {
      unsigned value = (static_cast<unsigned>(q[i]) >> nibble_shift) & 0xFu;
      if (high != nullptr) value |= ((static_cast<unsigned>(high[i]) >> j) & 1u) << 4;
      out[32 * j + i] = scale * static_cast<float>(value) - min;
    }
  }
}

void decode_q4_k(const Byte* in, float* out) { decode_q4_q5_k(in, nullptr, in + 16, out); }

void decode_q5_k(const Byte* in, float* out) { decode_q4_q5_k(in, in + 16, in + 48, out); }

// low 4 bits (128), high 2 bits (64), int8 scales of 16 elements each (16), f16 d. Each half of the
// block has four runs of 32: runs 0 and 1 in the low nibbles of bytes 0..31 and 32..63, runs 2 and
// 3 in the high ones; run r has its high bits at 2r of 32 shared bytes.
void decode_q6_k(const Byte* in, float* out) {
  const float d = load_f16(in + 208);
  for (std::size_t h = 0; h < 2; ++h) {
    const Byte* low = in + 64 * h;
    const Byte* high = in + 128 + 32 * h;
    const Byte* scales = in + 192 + 8 * h;
    for (std::size_t run = 0; run < 4; ++run) {
      const Byte* l = low + 32 * (run % 2);
      const unsigned nibble_shift = run < 2 ? 0 : 4;
      for (std::size_t i = 0; i < 32; ++i) {
        const int value = ((l[i] >> nibble_shift) & 0xF) | (((high[i] >> (2 * run)) & 3) << 4);
        const auto scale = static_cast<std::int8_t>(scales[2 * run + i / 16]);
        out[128 * h + 32 * run + i] =
            d * static_cast<float>(scale) * static_cast<float>(value - 32);
      }
    }
  }
}

template <class Decode>
void decode_blocks(std::size_t elements, std::size_t bytes, const Byte* in, std::span<float> out,
                   Decode decode) {
  const std::size_t blocks = out.size() / elements;
  for (std::size_t b = 0; b < blocks; ++b) decode(in + b * bytes, out.data() + b * elements);
}

template <class Convert>
void decode_halves(const Byte* in, std::span<float> out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, in + 2 * i, sizeof bits);
    out[i] = convert(bits);
  }
}

}  // namespace

void dequantize(BlockType type, std::span<const std::byte> in, std::span<float> out) {
  CONCLAVE_CHECK(bytes_of(type, out.size()) == in.size());
  if (out.empty()) return;
  const auto* bytes = reinterpret_cast<const Byte*>(in.data());
  switch (type) {
    case BlockType::kF32:
      std::memcpy(out.data(), bytes, in.size());
      return;
    case BlockType::kF16:
      return decode_halves(bytes, out, half::from_f16);
    case BlockType::kBF16:
      return decode_halves(bytes, out, half::from_bf16);
    case BlockType::kQ8_0:
      return decode_blocks(32, 34, bytes, out, decode_q8_0);
    case BlockType::kQ4_0:
      return decode_blocks(32, 18, bytes, out, decode_q4_0);
    case BlockType::kQ4_K:
      return decode_blocks(kSuperBlock, 144, bytes, out, decode_q4_k);
    case BlockType::kQ5_K:
      return decode_blocks(kSuperBlock, 176, bytes, out, decode_q5_k);
    case BlockType::kQ6_K:
      return decode_blocks(kSuperBlock, 210, bytes, out, decode_q6_k);
    case BlockType::kMXFP4:
      return decode_blocks(32, 17, bytes, out, decode_mxfp4);
  }
}

}  // namespace conclave::gguf
