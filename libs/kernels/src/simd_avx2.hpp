// Eight lanes: AVX2 with FMA and F16C. See simd_scalar.hpp for what each operation means.
#pragma once

#include <immintrin.h>

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
  static I32 load_u8_i32(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static I32 load_i8_i32(const std::uint8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static I32 mul_i32(I32 a, I32 b) { return _mm256_mullo_epi32(a, b); }
  static I32 add_i32(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
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

  // 63 * 127 * 2 < 2^15: the 16-bit sums of maddubs cannot saturate.
  static I32 dot4(I32 acc, U8 w, const std::int8_t* x) {
    return add_pairs(acc, _mm256_maddubs_epi16(w, broadcast4(x)));
  }
  static I32 biased_start(std::int32_t) { return _mm256_setzero_si256(); }
  // |w - 128| <= 128 and |x| <= 127: 128 * 127 * 2 < 2^15, so signs move to x and all is exact.
  static I32 dot4_biased(I32 acc, U8 w, const std::int8_t* x) {
    const __m256i sign = _mm256_xor_si256(w, _mm256_set1_epi8(static_cast<char>(0x80)));
    const __m256i signed_x = _mm256_sign_epi8(broadcast4(x), sign);
    return add_pairs(acc, _mm256_maddubs_epi16(_mm256_abs_epi8(sign), signed_x));
  }

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
