// Sixteen lanes: AVX-512 with VNNI. See simd_scalar.hpp for what each operation means.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace conclave::kernels {

struct SimdAvx512 {
  static constexpr int kLanes = 16;
  using F32 = __m512;
  using I32 = __m512i;
  using U8 = __m512i;

  static F32 zero() { return _mm512_setzero_ps(); }
  static F32 set1(float x) { return _mm512_set1_ps(x); }
  static F32 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F32 v) { _mm512_storeu_ps(p, v); }
  static F32 load_f16(const std::uint8_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static F32 load_bf16(const std::uint8_t* p) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
  static F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
  static F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
  static F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
  static F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
  static F32 fnma(F32 a, F32 b, F32 c) { return _mm512_fnmadd_ps(a, b, c); }
  static F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
  static F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
  static float largest(F32 v) { return _mm512_reduce_max_ps(v); }
  static std::uint32_t at_least(F32 v, F32 least) {
    return _mm512_cmp_ps_mask(v, least, _CMP_GE_OQ);
  }
  // To a register, then out: compressing straight to memory is slow on Zen 4.
  static void compress(float* p, F32 v, std::uint32_t bits) {
    _mm512_storeu_ps(p, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), v));
  }
  static void compress_numbers(std::int32_t* p, std::int32_t first, std::uint32_t bits) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i numbers = _mm512_add_epi32(_mm512_set1_epi32(first), lanes);
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), numbers));
  }

  struct F64 {
    __m512d low, high;
  };
  static F64 zero_f64() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
  static F64 add_f64(F64 sum, F32 v) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    return {_mm512_add_pd(sum.low, low), _mm512_add_pd(sum.high, high)};
  }
  static void store_f64(double* p, F64 v) {
    _mm512_storeu_pd(p, v.low);
    _mm512_storeu_pd(p + 8, v.high);
  }

  static F32 exp2_shifted(F32 t) {
    const __m512i n = _mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127 - 0x4B400000));
    return _mm512_castsi512_ps(_mm512_slli_epi32(n, 23));
  }
  static F32 load_e8m0_half(const std::uint8_t* p) {
    const __m512i e = load_u8_i32(p);
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    const __mmask16 is_tiny = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, is_tiny, tiny));
  }

  static I32 set1_i32(std::int32_t x) { return _mm512_set1_epi32(x); }
  static I32 load1_i32(const std::uint8_t* p) {
    std::int32_t value;
    std::memcpy(&value, p, sizeof value);
    return _mm512_set1_epi32(value);
  }
  static I32 load_u8_i32(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I32 load_i8_i32(const std::uint8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I32 load_u8_pairs(const std::uint8_t* low, const std::uint8_t* high) {
    return _mm512_or_si512(load_u8_i32(low), _mm512_slli_epi32(load_u8_i32(high), 16));
  }
  static I32 load_i8_pairs(const std::uint8_t* low, const std::uint8_t* high) {
    return pair16(load_i8_i32(low), load_i8_i32(high));
  }
  static I32 add_dot2(I32 sum, I32 pairs, const std::uint8_t* x) {
    return _mm512_dpwssd_epi32(sum, pairs, load1_i32(x));
  }
  /// The low halves of both in one: `low` in the low half.
  static I32 pair16(I32 low, I32 high) {
    return _mm512_mask_mov_epi16(_mm512_slli_epi32(high, 16), 0x55555555, low);
  }
  /// sum + the dot product of two pairs of 16-bit numbers in each lane.
  static I32 add_pair_products(I32 sum, I32 a, I32 b) { return _mm512_dpwssd_epi32(sum, a, b); }
  static I32 add_i32(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
  static I32 mul_i32(I32 a, I32 b) { return _mm512_mullo_epi32(a, b); }
  template <int kBits>
  static I32 divide(I32 a) {
    return _mm512_srai_epi32(a, kBits);
  }
  static F32 to_f32(I32 a) { return _mm512_cvtepi32_ps(a); }

  static U8 load_u8(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static U8 and_u8(U8 a, std::uint8_t mask) {
    return _mm512_and_si512(a, _mm512_set1_epi8(static_cast<char>(mask)));
  }
  static U8 or_u8(U8 a, U8 b) { return _mm512_or_si512(a, b); }
  template <int kBits>
  static U8 shift_right(U8 a) {
    return _mm512_srli_epi32(a, kBits);
  }
  template <int kBits>
  static U8 shift_left(U8 a) {
    return _mm512_slli_epi32(a, kBits);
  }
  static U8 lookup(U8 index, const std::uint8_t* table) {
    const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), index);
  }

  static void store_f16(std::uint8_t* p, F32 v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void transpose16(const float* in, std::size_t stride, float* out) {
    __m512 a[16];
    __m512 b[16];
    for (std::size_t i = 0; i < 16; ++i) a[i] = load(in + i * stride);
    for (std::size_t i = 0; i < 16; i += 2) {
      b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
      b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (std::size_t i = 0; i < 16; i += 4) {  // a[i + k]: columns k, k + 4, .. of rows i .. i + 3
      a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
      a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xEE);
      a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
      a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
    }
    for (std::size_t k = 0; k < 4; ++k) {  // quarter q of each: column k + 4 q
      const __m512 low = _mm512_shuffle_f32x4(a[k], a[k + 4], 0x88);
      const __m512 high = _mm512_shuffle_f32x4(a[k + 8], a[k + 12], 0x88);
      const __m512 low_odd = _mm512_shuffle_f32x4(a[k], a[k + 4], 0xDD);
      const __m512 high_odd = _mm512_shuffle_f32x4(a[k + 8], a[k + 12], 0xDD);
      store(out + k * 16, _mm512_shuffle_f32x4(low, high, 0x88));
      store(out + (k + 8) * 16, _mm512_shuffle_f32x4(low, high, 0xDD));
      store(out + (k + 4) * 16, _mm512_shuffle_f32x4(low_odd, high_odd, 0x88));
      store(out + (k + 12) * 16, _mm512_shuffle_f32x4(low_odd, high_odd, 0xDD));
    }
  }
  static std::uint32_t largest_bits(const float* x, std::size_t n) {
    const __m512i mask = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i largest = _mm512_setzero_si512();
    for (std::size_t i = 0; i < n; i += 16) {
      largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_loadu_si512(x + i), mask));
    }
    return _mm512_reduce_max_epu32(largest);
  }
  static void round(const float* x, std::size_t n, float factor, std::int8_t* quants) {
    const auto ints = [&](std::size_t at) {
      const F32 shift = set1(12582912.0f);
      const F32 shifted = add(mul(load(x + at), set1(factor)), shift);
      return _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_castps_si512(shift));
    };
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
      const __m512i words = _mm512_packs_epi32(ints(i), ints(i + 16));
      const __m512i later = _mm512_packs_epi32(ints(i + 32), ints(i + 48));
      _mm512_storeu_si512(quants + i, transpose4(_mm512_packs_epi16(words, later)));
    }
    for (; i < n; i += 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + i), _mm512_cvtepi32_epi8(ints(i)));
    }
  }
  static std::int32_t sum16(const std::int8_t* quants) {
    // Shifted to unsigned bytes, whose sums are one instruction; 16 shifts of 128 are taken back.
    const __m128i bytes = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(quants)),
                                        _mm_set1_epi8(-128));
    const __m128i halves = _mm_sad_epu8(bytes, _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_srli_si128(halves, 8))) - 16 * 128;
  }
  /// sum16() of 16 times 16 numbers.
  static I32 sums16(const std::int8_t* quants) {
    const auto sums = [quants](int part) {  // each 16 bytes become {sum, 0, sum, 0}
      const __m512i bytes =
          _mm512_xor_si512(_mm512_loadu_si512(quants + 64 * part), _mm512_set1_epi8(-128));
      const __m512i halves = _mm512_sad_epu8(bytes, _mm512_setzero_si512());
      return _mm512_add_epi32(halves, _mm512_shuffle_epi32(halves, _MM_PERM_BADC));
    };
    const __m512i all = _mm512_unpacklo_epi64(_mm512_unpacklo_epi32(sums(0), sums(1)),
                                              _mm512_unpacklo_epi32(sums(2), sums(3)));
    return _mm512_sub_epi32(transpose4(all), _mm512_set1_epi32(16 * 128));
  }
  struct Magnitudes {
    std::int32_t of16;
    std::int32_t of32;
  };
  static Magnitudes largest_magnitudes(const std::int8_t* quants) {
    __m512i of16 = _mm512_setzero_si512();
    __m512i of32 = of16;
    for (int i = 0; i < 4; ++i) {
      const __m512i bytes = _mm512_abs_epi8(_mm512_loadu_si512(quants + 64 * i));
      const __m512i parts = _mm512_sad_epu8(bytes, _mm512_setzero_si512());
      const __m512i halves = _mm512_add_epi32(parts, _mm512_shuffle_epi32(parts, _MM_PERM_BADC));
      of16 = _mm512_max_epi32(of16, halves);
      const __m512i others = _mm512_shuffle_i64x2(halves, halves, 0xB1);
      of32 = _mm512_max_epi32(of32, _mm512_add_epi32(halves, others));
    }
    return {_mm512_reduce_max_epi32(of16), _mm512_reduce_max_epi32(of32)};
  }
  /// Adds neighbours and stores what becomes of 16 numbers: 8 sums.
  static void store_pair_sums(I32 v, std::int32_t factor, std::int32_t* products,
                              std::int16_t* sums) {
    const __m512i pairs = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
    const __m256i eight = _mm512_cvtepi64_epi32(pairs);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(products),
                        _mm256_mullo_epi32(eight, _mm256_set1_epi32(factor)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sums), _mm256_cvtepi32_epi16(eight));
  }
  static void store_product(I32 v, std::int32_t factor, std::int32_t* products) {
    _mm512_storeu_si512(products, _mm512_mullo_epi32(v, _mm512_set1_epi32(factor)));
  }
  /// A matrix (4, 4) of 32-bit words transposed.
  static __m512i transpose4(__m512i v) {
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
  }

  template <int kMax>
  struct Dots {
    I32 total;

    static U8 prepare(U8 w) { return w; }
    void start(I32 offset) { total = offset; }
    void add(std::size_t, U8 w, const std::int8_t* x) {
      std::int32_t word;
      std::memcpy(&word, x, sizeof word);
      total = _mm512_dpbusd_epi32(total, w, _mm512_set1_epi32(word));
    }
    [[nodiscard]] I32 sum() const { return total; }
  };
  struct BiasedDots : Dots<255> {
    void start(const std::uint8_t* offset) { total = load1_i32(offset); }
  };
};

}  // namespace conclave::kernels
