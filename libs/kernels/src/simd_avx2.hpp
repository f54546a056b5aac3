// Eight lanes: AVX2 with FMA and F16C. See simd_scalar.hpp for what each operation means.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace conclave::kernels {

struct SimdAvx2 {
  static constexpr int kLanes = 8;
  using F32 = __m256;
  using I32 = __m256i;
  using U8 = __m256i;

  static F32 zero() { return _mm256_setzero_ps(); }
  static F32 set1(float x) { return _mm256_set1_ps(x); }
  static F32 load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F32 v) { _mm256_storeu_ps(p, v); }
  static F32 load_f16(const std::uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static F32 load_bf16(const std::uint8_t* p) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
  static F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
  static F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
  static F32 div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
  static F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
  static F32 fnma(F32 a, F32 b, F32 c) { return _mm256_fnmadd_ps(a, b, c); }
  static F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
  static F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
  static float largest(F32 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
  }
  static std::uint32_t at_least(F32 v, F32 least) {
    return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, least, _CMP_GE_OQ)));
  }
  static void compress(float* p, F32 v, std::uint32_t bits) {
    _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(v, compression(bits)));
  }
  static void compress_numbers(std::int32_t* p, std::int32_t first, std::uint32_t bits) {
    const __m256i numbers = _mm256_add_epi32(_mm256_set1_epi32(first), compression(bits));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), numbers);
  }

  struct F64 {
    __m256d low, high;
  };
  static F64 zero_f64() { return {_mm256_setzero_pd(), _mm256_setzero_pd()}; }
  static F64 add_f64(F64 sum, F32 v) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    return {_mm256_add_pd(sum.low, low), _mm256_add_pd(sum.high, high)};
  }
  static void store_f64(double* p, F64 v) {
    _mm256_storeu_pd(p, v.low);
    _mm256_storeu_pd(p + 4, v.high);
  }

  static F32 exp2_shifted(F32 t) {
    const __m256i n = _mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127 - 0x4B400000));
    return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
  }
  static F32 load_e8m0_half(const std::uint8_t* p) {
    const __m256i e = load_u8_i32(p);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    const __m256i is_tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e);
    return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, tiny, is_tiny));
  }

  static I32 set1_i32(std::int32_t x) { return _mm256_set1_epi32(x); }
  static I32 load1_i32(const std::uint8_t* p) {
    std::int32_t value;
    std::memcpy(&value, p, sizeof value);
    return _mm256_set1_epi32(value);
  }
  static I32 load_u8_i32(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static I32 load_i8_i32(const std::uint8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static I32 load_u8_pairs(const std::uint8_t* low, const std::uint8_t* high) {
    return _mm256_or_si256(load_u8_i32(low), _mm256_slli_epi32(load_u8_i32(high), 16));
  }
  static I32 add_dot2(I32 sum, I32 pairs, const std::uint8_t* x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, load1_i32(x)));
  }
  static I32 add_i32(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
  static I32 mul_i32(I32 a, I32 b) { return _mm256_mullo_epi32(a, b); }
  template <int kBits>
  static I32 divide(I32 a) {
    return _mm256_srai_epi32(a, kBits);
  }
  static F32 to_f32(I32 a) { return _mm256_cvtepi32_ps(a); }

  static U8 load_u8(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static U8 and_u8(U8 a, std::uint8_t mask) {
    return _mm256_and_si256(a, _mm256_set1_epi8(static_cast<char>(mask)));
  }
  static U8 or_u8(U8 a, U8 b) { return _mm256_or_si256(a, b); }
  template <int kBits>
  static U8 shift_right(U8 a) {
    return _mm256_srli_epi32(a, kBits);
  }
  template <int kBits>
  static U8 shift_left(U8 a) {
    return _mm256_slli_epi32(a, kBits);
  }
  static U8 lookup(U8 index, const std::uint8_t* table) {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(entries), index);
  }

  static std::uint32_t largest_bits(const float* x, std::size_t n) {
    const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i largest = _mm256_setzero_si256();
    for (std::size_t i = 0; i < n; i += 8) {
      const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
      largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, mask));
    }
    __m128i four =
        _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4E));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xB1));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(four));
  }
  static void round(const float* x, std::size_t n, float factor, std::int8_t* quants) {
    const auto ints = [&](std::size_t at) {
      const F32 shift = set1(12582912.0f);
      const F32 shifted = add(mul(load(x + at), set1(factor)), shift);
      return _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(shift));
    };
    for (std::size_t i = 0; i < n; i += 32) {
      const __m256i low = _mm256_packs_epi32(ints(i), ints(i + 8));
      const __m256i high = _mm256_packs_epi32(ints(i + 16), ints(i + 24));
      // Packing works within halves of 128 bits: runs of 4 bytes come as 0 2 4 6 1 3 5 7.
      const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                                        _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(quants + i), bytes);
    }
  }
  struct Magnitudes {
    std::int32_t of16;
    std::int32_t of32;
  };
  static Magnitudes largest_magnitudes(const std::int8_t* quants) {
    __m256i of16 = _mm256_setzero_si256();
    __m256i of32 = of16;
    for (int i = 0; i < 8; ++i) {
      const __m256i bytes =
          _mm256_abs_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(quants + 32 * i)));
      const __m256i parts = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
      const __m256i halves = _mm256_add_epi32(parts, _mm256_shuffle_epi32(parts, 0x4E));
      of16 = _mm256_max_epi32(of16, halves);
      of32 =
          _mm256_max_epi32(of32, _mm256_add_epi32(halves, _mm256_permute4x64_epi64(halves, 0x4E)));
    }
    return {std::max(_mm256_extract_epi32(of16, 0), _mm256_extract_epi32(of16, 4)),
            _mm256_extract_epi32(of32, 0)};
  }
  static std::int32_t sum16(const std::int8_t* quants) {
    // Shifted to unsigned bytes, whose sums are one instruction; 16 shifts of 128 are taken back.
    const __m128i bytes = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(quants)),
                                        _mm_set1_epi8(-128));
    const __m128i halves = _mm_sad_epu8(bytes, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_srli_si128(halves, 8))) - 16 * 128;
  }

  // 16-bit sums of maddubs are kept for as many groups as cannot saturate them, then widened.
  template <int kMax>
  struct Dots {
    static constexpr std::size_t kRun = 32767 / (kMax * 127 * 2) >= 8   ? 8
                                        : 32767 / (kMax * 127 * 2) >= 4 ? 4
                                                                        : 2;
    static_assert(kRun * kMax * 127 * 2 <= 32767);
    I32 total;
    __m256i pairs;

    static U8 prepare(U8 w) { return w; }
    void start(I32 offset) { total = offset; }
    void add(std::size_t step, U8 w, const std::int8_t* x) {
      const __m256i products = _mm256_maddubs_epi16(w, broadcast4(x));
      pairs = step % kRun == 0 ? products : _mm256_add_epi16(pairs, products);
      // Keeps the compiler from putting off additions until it has no registers left.
      if constexpr (kRun == 8) asm("" : "+x"(pairs));
      if (step % kRun == kRun - 1) total = add_pairs(total, pairs);
    }
    [[nodiscard]] I32 sum() const { return total; }
  };

  // |w - 128| <= 128 and |x| <= 127: 128 * 127 * 2 < 2^15, so signs move to x and all is exact.
  struct BiasedDots {
    struct Weights {
      __m256i magnitude;
      __m256i sign;
    };
    I32 total;

    static Weights prepare(U8 w) {
      const __m256i sign = _mm256_xor_si256(w, _mm256_set1_epi8(static_cast<char>(0x80)));
      return {_mm256_abs_epi8(sign), sign};
    }
    void start(const std::uint8_t*) { total = _mm256_setzero_si256(); }
    void add(std::size_t, const Weights& w, const std::int8_t* x) {
      const __m256i signed_x = _mm256_sign_epi8(broadcast4(x), w.sign);
      total = add_pairs(total, _mm256_maddubs_epi16(w.magnitude, signed_x));
    }
    [[nodiscard]] I32 sum() const { return total; }
  };

  static void store_f16(std::uint8_t* p, F32 v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void transpose16(const float* in, std::size_t stride, float* out) {
    for (std::size_t row = 0; row < 16; row += 8) {
      for (std::size_t column = 0; column < 16; column += 8) {
        transpose8(in + row * stride + column, stride, out + column * 16 + row);
      }
    }
  }

 private:
  // The numbers of the set bits, lowest first. A table: PEXT is slow on older AMD cores.
  static __m256i compression(std::uint32_t bits) {
    return _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kCompression.lanes[bits])));
  }
  struct Compression {
    std::uint8_t lanes[256][8] = {};
    constexpr Compression() {
      for (unsigned bits = 0; bits < 256; ++bits) {
        unsigned count = 0;
        for (std::uint8_t lane = 0; lane < 8; ++lane) {
          if ((bits >> lane & 1u) != 0) lanes[bits][count++] = lane;
        }
      }
    }
  };
  static const Compression kCompression;

  static void transpose8(const float* in, std::size_t stride, float* out) {
    __m256 a[8];
    __m256 b[8];
    for (std::size_t i = 0; i < 8; ++i) a[i] = load(in + i * stride);
    for (std::size_t i = 0; i < 8; i += 2) {
      b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    for (std::size_t i = 0; i < 8; i += 4) {  // a[i + k]: columns k and k + 4 of rows i .. i + 3
      a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
      a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      store(out + i * 16, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
      store(out + (i + 4) * 16, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
  }

  static __m256i broadcast4(const std::int8_t* x) {
    std::int32_t word;
    std::memcpy(&word, x, sizeof word);
    return _mm256_set1_epi32(word);
  }
  static I32 add_pairs(I32 acc, __m256i pairs) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

inline constexpr SimdAvx2::Compression SimdAvx2::kCompression{};

}  // namespace conclave::kernels
