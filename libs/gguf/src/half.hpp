// Conversions between float and the two 16-bit formats, in integer arithmetic: the same bits on
// every compiler, instruction set, rounding mode and flush-to-zero setting.
#pragma once

#include <bit>
#include <cstdint>

namespace conclave::gguf::half {

inline float from_f16(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1Fu;
  std::uint32_t mantissa = half & 0x3FFu;
  std::uint32_t bits = 0;
  if (exponent == 0x1F) {
    bits = 0x7F800000u | (mantissa << 13);
    if (mantissa != 0) bits |= 0x00400000u;  // quiet, as the hardware conversion does
  } else if (exponent != 0) {
    bits = ((exponent + 127 - 15) << 23) | (mantissa << 13);
  } else if (mantissa != 0) {
    // A subnormal, mantissa * 2^-24: shift its leading one into the hidden bit (bit 10).
    const auto shift = static_cast<std::uint32_t>(std::countl_zero(mantissa)) - 21;
    mantissa = (mantissa << shift) & 0x3FFu;
    bits = ((127 - 15 + 1 - shift) << 23) | (mantissa << 13);
  }
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
