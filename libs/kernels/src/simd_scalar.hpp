// One lane of plain C++: what every other set of instructions must equal, bit for bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "conclave/gguf/block_type.hpp"

namespace conclave::kernels {

struct SimdScalar {
  static constexpr int kLanes = 1;
  using F32 = float;
  using I32 = std::int32_t;
  using U8 = std::uint32_t;  // 4 bytes, byte 0 lowest

  static F32 zero() { return 0.0f; }
  static F32 set1(float x) { return x; }
  static F32 load(const float* p) { return *p; }
  static void store(float* p, F32 v) { *p = v; }
  static F32 load_f16(const std::uint8_t* p) { return gguf::f16_to_f32(read16(p)); }
  static F32 load_bf16(const std::uint8_t* p) { return gguf::bf16_to_f32(read16(p)); }
  static F32 add(F32 a, F32 b) { return a + b; }
  static F32 sub(F32 a, F32 b) { return a - b; }
  static F32 mul(F32 a, F32 b) { return a * b; }
  static F32 div(F32 a, F32 b) { return a / b; }
  static F32 fma(F32 a, F32 b, F32 c) { return std::fma(a, b, c); }
  static F32 fnma(F32 a, F32 b, F32 c) { return std::fma(-a, b, c); }
  // As the x86 instructions: the second operand if either is NaN.
  static F32 max(F32 a, F32 b) { return a > b ? a : b; }
  static F32 min(F32 a, F32 b) { return a < b ? a : b; }
  static float largest(F32 v) { return v; }
  /// Bit i: lane i is at least `least`.
  static std::uint32_t at_least(F32 v, F32 least) { return v >= least ? 1u : 0u; }
  /// Writes the lanes of v whose bit is set, in order; may write kLanes values whatever the bits.
  static void compress(float* p, F32 v, std::uint32_t) { *p = v; }
  /// As compress, for the numbers first, first + 1, .. of the lanes.
  static void compress_numbers(std::int32_t* p, std::int32_t first, std::uint32_t) { *p = first; }

  // As many doubles as there are lanes, for sums.
  using F64 = double;
  static F64 zero_f64() { return 0.0; }
  static F64 add_f64(F64 sum, F32 v) { return sum + double{v}; }
  static void store_f64(double* p, F64 v) { *p = v; }

  /// 2^n for t = n + 1.5 * 2^23, n integral in [-126, 127]: n stands in the low bits of t.
  static F32 exp2_shifted(F32 t) {
    std::uint32_t bits;
    std::memcpy(&bits, &t, sizeof bits);
    bits = (bits - 0x4B400000u + 127u) << 23;
    std::memcpy(&t, &bits, sizeof t);
    return t;
  }
  /// 2^(e - 128) for an e8m0 exponent byte: half its value, for grids that are kept doubled.
  static F32 load_e8m0_half(const std::uint8_t* p) {
    const std::uint32_t bits =
        *p < 2 ? 0x00200000u << *p : static_cast<std::uint32_t>(*p - 1) << 23;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
  }

  static I32 set1_i32(std::int32_t x) { return x; }
  /// One value in all lanes.
  static I32 load1_i32(const std::uint8_t* p) {
    std::int32_t value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  static I32 load_u8_i32(const std::uint8_t* p) { return *p; }
  static I32 load_i8_i32(const std::uint8_t* p) { return static_cast<std::int8_t>(*p); }
  /// In each lane two 16-bit numbers, a byte of `low` and one of `high`.
  static I32 load_u8_pairs(const std::uint8_t* low, const std::uint8_t* high) {
    return *low | (*high << 16);
  }
  /// sum + both numbers of `pairs` times the two 16-bit numbers at p, which all lanes share.
  static I32 add_dot2(I32 sum, I32 pairs, const std::uint8_t* p) {
    std::int16_t x[2];
    std::memcpy(x, p, sizeof x);
    return sum + (pairs & 0xFFFF) * x[0] + (pairs >> 16) * x[1];
  }
  static I32 add_i32(I32 a, I32 b) { return a + b; }
  static I32 mul_i32(I32 a, I32 b) { return a * b; }
  /// a / 2^kBits for multiples of it.
  template <int kBits>
  static I32 divide(I32 a) {
    return a >> kBits;
  }
  static F32 to_f32(I32 a) { return static_cast<float>(a); }

  static U8 load_u8(const std::uint8_t* p) {
    std::uint32_t out;
    std::memcpy(&out, p, sizeof out);
    return out;
  }
  static U8 and_u8(U8 a, std::uint8_t mask) { return a & (0x01010101u * mask); }
  static U8 or_u8(U8 a, U8 b) { return a | b; }
  /// Shifts bits across bytes too: mask before or after.
  template <int kBits>
  static U8 shift_right(U8 a) {
    return a >> kBits;
  }
  template <int kBits>
  static U8 shift_left(U8 a) {
    return a << kBits;
  }
  /// table[byte] for bytes below 16.
  static U8 lookup(U8 index, const std::uint8_t* table) {
    U8 out = 0;
    for (int i = 0; i < 4; ++i) {
      out |= static_cast<U8>(table[(index >> (8 * i)) & 15u]) << (8 * i);
    }
    return out;
  }

  /// The largest of n magnitudes, n % 32 == 0, as bits: |x| orders as its bits do; inf and NaN come
  /// last.
  static std::uint32_t largest_bits(const float* x, std::size_t n) {
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, x + i, sizeof bits);
      bits &= 0x7FFFFFFFu;
      largest = bits > largest ? bits : largest;
    }
    return largest;
  }
  /// n products with `factor`, n % 32 == 0, within [-127, 127], rounded to the nearest even
  /// integer.
  static void round(const float* x, std::size_t n, float factor, std::int8_t* quants) {
    for (std::size_t i = 0; i < n; ++i) {
      const float rounded = (x[i] * factor + 12582912.0f) - 12582912.0f;
      quants[i] = static_cast<std::int8_t>(rounded);
    }
  }
  /// Of 256 numbers: the largest sum of the magnitudes of 16 neighbours, and of 32.
  struct Magnitudes {
    std::int32_t of16;
    std::int32_t of32;
  };
  static Magnitudes largest_magnitudes(const std::int8_t* quants) {
    Magnitudes largest{};
    for (int block = 0; block < 8; ++block) {
      std::int32_t sums[2] = {};
      for (std::int32_t& sum : sums) {
        for (int i = 0; i < 16; ++i) sum += std::abs(int{*quants++});
      }
      largest.of16 = std::max({largest.of16, sums[0], sums[1]});
      largest.of32 = std::max(largest.of32, sums[0] + sums[1]);
    }
    return largest;
  }
  /// The sum of 16 bytes.
  static std::int32_t sum16(const std::int8_t* quants) {
    std::int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += quants[i];
    return sum;
  }

  /// The dot product of a sub block's weights, at most kMax, with a row: start, then add each group
  /// (`step` counts them; all must come), then sum. `prepare` is what the rows of a group share.
  template <int kMax>
  struct Dots {
    I32 total;

    static U8 prepare(U8 w) { return w; }
    void start(I32 offset) { total = offset; }
    /// Adds w[0] x[0] + .. + w[3] x[3] in each lane; x in [-127, 127].
    void add(std::size_t, U8 w, const std::int8_t* x) {
      for (int i = 0; i < 4; ++i) total += static_cast<I32>((w >> (8 * i)) & 0xFFu) * x[i];
    }
    [[nodiscard]] I32 sum() const { return total; }
  };
  /// As Dots, for w that stands for w - 128; `offset` is -128 times the sum of the row's inputs.
  struct BiasedDots : Dots<255> {
    void start(const std::uint8_t* offset) { total = load1_i32(offset); }
  };

  /// kLanes halves, rounded to nearest even. NaN keeps the upper bits of its payload, quiet.
  static void store_f16(std::uint8_t* p, F32 v) {
    std::uint16_t half = gguf::f32_to_f16(v);
    std::uint32_t bits;
    std::memcpy(&bits, &v, sizeof bits);
    if (std::isnan(v)) half = static_cast<std::uint16_t>(half | ((bits >> 13) & 0x3FFu));
    std::memcpy(p, &half, sizeof half);
  }
  /// out (16, 16) = the transpose of 16 rows of 16 floats, `stride` floats apart.
  static void transpose16(const float* in, std::size_t stride, float* out) {
    for (std::size_t row = 0; row < 16; ++row) {
      for (std::size_t column = 0; column < 16; ++column) {
        out[column * 16 + row] = in[row * stride + column];
      }
    }
  }

 private:
  static std::uint16_t read16(const std::uint8_t* p) {
    std::uint16_t out;
    std::memcpy(&out, p, sizeof out);
    return out;
  }
};

}  // namespace conclave::kernels
