// Conversions between float and the two 16-bit formats, without rounding in floating point: the
// same bits on every compiler, instruction set, rounding mode and flush-to-zero setting.
#pragma once

#include <bit>
#include <cstdint>

namespace conclave::gguf::half {

// Without branches that depend on the data: weights are converted by the million.
inline float from_f16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7FFFu;
  std::uint32_t bits = (magnitude << 13) + ((127u - 15u) << 23);
  // inf and NaN: exponent 31 becomes 255, and NaN quiet as the hardware conversion makes it.
  bits += magnitude >= 0x7C00u ? (127u - 15u) << 23 : 0u;
  bits |= magnitude > 0x7C00u ? 0x00400000u : 0u;
  // Subnormals are magnitude * 2^-24, which is the last bit of numbers from 0.5 to 1: exact, and
  // never a subnormal float.
  const float subnormal = std::bit_cast<float>(0x3F000000u | magnitude) - 0.5f;
  bits = magnitude < 0x400u ? std::bit_cast<std::uint32_t>(subnormal) & 0x7FFFFFFFu : bits;
  return std::bit_cast<float>(sign | bits);
}

inline std::uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  std::uint32_t half = 0;
  if (magnitude >= 0x47800000u) {  // from 65536 on, inf and NaN (one NaN, as in ggml)
    half = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
  } else if (magnitude >= 0x38800000u) {  // normal: from 2^-14 on; a carry may reach inf
    half = (magnitude - ((127u - 15u) << 23) + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
  } else if (magnitude >= 0x33000000u) {  // subnormal in units of 2^-24: from 2^-25 on
    const std::uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    const std::uint32_t shift = 126 - (magnitude >> 23);
    const std::uint32_t rest = mantissa & ((1u << shift) - 1);
    const std::uint32_t tie = 1u << (shift - 1);
    half = mantissa >> shift;
    if (rest > tie || (rest == tie && (half & 1u) != 0)) ++half;
  }
  return static_cast<std::uint16_t>(sign | half);
}

inline float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

inline std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // quiet: never rounds to inf
  }
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace conclave::gguf::half
