// Weights of K-quants as tile instructions take them, made from packed ones by AVX-512. Included by
// kernels_amx.cpp only, whose head says why a weight becomes two bytes.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "block_formats.hpp"
#include "conclave/base/aligned.hpp"
#include "layout.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

using layout::kGroupBytes;
using layout::kLanes;

constexpr std::size_t kTileRows = 16;
constexpr std::size_t kTileBytes = 64;  // of a row: inputs of one tile instruction
constexpr std::size_t kSuper = 256;     // inputs that share a row's scale
constexpr std::size_t kChunks = kSuper / kTileBytes;
constexpr std::size_t kSubs = kSuper / kRowBlock;
using Tile = std::uint8_t[kTileRows][kTileBytes];

// A super of one panel as tile instructions take it: row g of a chunk has 4 inputs of 16 outputs.
struct alignas(base::kCacheLine) Weights {
  Tile low[kChunks];
  Tile high[kChunks];
  Tile mins;  // bf16, each twice; rows from kSubs on are zero
  float d[kLanes];
  float dmin[kLanes];
};

__m512i load_u8_i32(const std::uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

__m512 load_f16(const std::uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// The number of each lane in both of its halves.
__m512i twice(__m512i numbers) { return _mm512_or_si512(numbers, _mm512_slli_epi32(numbers, 16)); }

std::uint8_t* group_of(Tile (&tiles)[kChunks], std::size_t sub, std::size_t group) {
  return tiles[sub / 2][sub % 2 * layout::kGroups + group];
}

// The lines that the same 16 outputs of some rows go to.
struct OutputLines {
  const float* y;
  std::size_t stride;  // floats between rows
  std::size_t rows;
};

// Takes the parts of a fetch in turn, and with each asks for one line of outputs: stores leave in
// their order and wait for lines that are in no cache.
struct Fetching {
  Fetch<FetchKind::kParts> weights;
  std::size_t parts;
  OutputLines outputs;
  std::size_t next = 0;

  void some() {
    if (next < outputs.rows) __builtin_prefetch(outputs.y + next * outputs.stride, 1);
    weights.part(next++, parts);
  }
};

struct QuantPair {
  __m512i first;   // of the low nibbles
  __m512i second;  // of the high ones
};

QuantPair nibbles(const std::uint8_t* pair) {
  const __m512i mask = _mm512_set1_epi8(15);
  const __m512i bytes = _mm512_loadu_si512(pair);
  return {_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi32(bytes, 4), mask)};
}

// Formats. prepare(super, weights, fetching) fills all but the zero rows; low + kStep * high of the
// weights is scale * quant.

// Q4_K and Q5_K: scale = low + 8 * high, both of 3 bits, so that products with a quant of at most
// 31 fit into bytes and one 16-bit multiplication makes two of them.
template <class L, class PairOf>
void prepare_scale_min(const std::uint8_t* super, Weights& out, Fetching& fetching,
                       const PairOf& pair_of) {
  const __m512i three_bits = _mm512_set1_epi32(7);
  for (std::size_t sub = 0; sub < kSubs; ++sub) {
    fetching.some();
    const __m512i scale = load_u8_i32(super + L::kScales + sub * kLanes);
    const __m512i low = twice(_mm512_and_si512(scale, three_bits));
    const __m512i high = twice(_mm512_srli_epi32(scale, 3));
    const auto put = [&](std::size_t group, __m512i quants) {
      _mm512_store_si512(group_of(out.low, sub, group), _mm512_mullo_epi16(quants, low));
      _mm512_store_si512(group_of(out.high, sub, group), _mm512_mullo_epi16(quants, high));
    };
    for (std::size_t g = 0; g < layout::kGroups / 2; ++g) {
      const auto [first, second] = pair_of(super + L::kSub + sub * L::kSubBytes, g);
      put(g, first);
      put(g + layout::kGroups / 2, second);
    }
    // A bf16 is the upper half of a float.
    const __m512i min =
        _mm512_castps_si512(_mm512_cvtepi32_ps(load_u8_i32(super + L::kMins + sub * kLanes)));
    _mm512_store_si512(out.mins[sub], _mm512_or_si512(min, _mm512_srli_epi32(min, 16)));
  }
  _mm512_store_ps(out.d, load_f16(super + L::kD));
  _mm512_store_ps(out.dmin, load_f16(super + L::kMin));
}

template <class L>
struct ScaleMin {
  using Layout = L;
  static constexpr int kStepBits = 3;
  static constexpr bool kHasMins = true;
  static constexpr bool kSignedHigh = false;
};

struct Q4K : ScaleMin<layout::Q4K> {
  static void prepare(const std::uint8_t* super, Weights& out, Fetching& fetching) {
    prepare_scale_min<Layout>(super, out, fetching, [](const std::uint8_t* sub, std::size_t g) {
      return nibbles(sub + g * kGroupBytes);
    });
  }
};

struct Q5K : ScaleMin<layout::Q5K> {
  static void prepare(const std::uint8_t* super, Weights& out, Fetching& fetching) {
    prepare_scale_min<Layout>(super, out, fetching, [](const std::uint8_t* sub, std::size_t g) {
      const __m512i fifth = _mm512_set1_epi8(16);
      const __m512i high = _mm512_loadu_si512(sub + Layout::kSubHigh);
      const auto shift = static_cast<unsigned>(g);  // bit g of a byte belongs to group g
      QuantPair pair = nibbles(sub + g * kGroupBytes);
      pair.first =
          _mm512_or_si512(pair.first, _mm512_and_si512(_mm512_slli_epi32(high, 4 - shift), fifth));
      pair.second =
          _mm512_or_si512(pair.second, _mm512_and_si512(_mm512_srli_epi32(high, shift), fifth));
      return pair;
    });
  }
};

// Q6_K: 16 bits of scale * (quant - 32), low ones unsigned, high ones signed.
struct Q6K {
  using Layout = layout::Q6K;
  static constexpr int kStepBits = 8;
  static constexpr bool kHasMins = false;
  static constexpr bool kSignedHigh = true;

  static void prepare(const std::uint8_t* super, Weights& out, Fetching& fetching) {
    const __m512i even = _mm512_set1_epi16(0x00FF);
    const __m512i high_bits = _mm512_set1_epi8(48);
    for (std::size_t sub = 0; sub < kSubs; ++sub) {
      fetching.some();
      const std::uint8_t* const quants = super + Layout::kSub + sub * Layout::kSubBytes;
      for (std::size_t half = 0; half < 2; ++half) {
        // Each scale as four bytes of its lane.
        const __m512i scale = _mm512_shuffle_epi8(
            _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(
                super + Layout::kScales + (2 * sub + half) * kLanes))),
            _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0x00000000));
        const __m512i offset = _mm512_maddubs_epi16(_mm512_set1_epi16(32), scale);
        const auto put = [&](std::size_t group, __m512i values) {
          const __m512i evens =
              _mm512_sub_epi16(_mm512_maddubs_epi16(_mm512_and_si512(values, even), scale), offset);
          const __m512i odds = _mm512_sub_epi16(
              _mm512_maddubs_epi16(_mm512_andnot_si512(even, values), scale), offset);
          // Bits of `even` choose the first: 0xCA is a ? b : c.
          _mm512_store_si512(
              group_of(out.low, sub, group),
              _mm512_ternarylogic_epi32(even, evens, _mm512_slli_epi16(odds, 8), 0xCA));
          _mm512_store_si512(
              group_of(out.high, sub, group),
              _mm512_ternarylogic_epi32(even, _mm512_srli_epi16(evens, 8), odds, 0xCA));
        };
        const __m512i high = _mm512_loadu_si512(quants + Layout::kSubHigh + half * kGroupBytes);
        for (std::size_t g = 0; g < 2; ++g) {
          const QuantPair pair = nibbles(quants + (2 * half + g) * kGroupBytes);
          const auto shift = static_cast<unsigned>(2 * g);
          const __m512i first = _mm512_and_si512(_mm512_slli_epi32(high, 4 - shift), high_bits);
          const __m512i second = _mm512_and_si512(_mm512_srli_epi32(high, shift), high_bits);
          put(4 * half + g, _mm512_or_si512(pair.first, first));
          put(4 * half + g + 2, _mm512_or_si512(pair.second, second));
        }
      }
    }
    _mm512_store_ps(out.d, load_f16(super + Layout::kD));
  }
};

}  // namespace
}  // namespace conclave::kernels
