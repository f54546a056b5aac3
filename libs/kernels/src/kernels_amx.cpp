// Products of K-quants with many rows on AMX: tile instructions that multiply 16 rows of 64 bytes
// with 64 inputs of 16 outputs. All else runs on the AVX-512 kernels.
//
// A weight is scale * quant (kernel_table.hpp), an integer of more than 8 bits. It is taken apart
// into two bytes, low + kStep * high, so that one product of a super (256 inputs) is two sums of a
// tile register: no scale stands between the dot products, and no sum leaves the registers before
// its super is done. These bytes are made once for up to kRowsMax rows. All sums are integers, or
// floats that hold integers below 2^24, so they are exact in any order.
//
// Threads: a thread's tile registers are configured at the start of a call and released at its end.
#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "block_formats.hpp"
#include "conclave/base/aligned.hpp"
#include "layout.hpp"
#include "tables.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

using layout::kGroupBytes;
using layout::kLanes;

constexpr std::size_t kTileRows = 16;
constexpr std::size_t kTileBytes = 64;  // of a row: inputs of one tile instruction
constexpr std::size_t kSuper = 256;     // inputs that share a row's scale
constexpr std::size_t kChunks = kSuper / kTileBytes;
constexpr std::size_t kSubs = kSuper / kRowBlock;
// Rows for which a super of weights is prepared once: their 256 inputs and the super beside them
// stay in the first-level cache.
constexpr std::size_t kRowsMax = 96;
// Panels that take turns with the same 256 inputs of the rows, which stay in the first-level cache.
constexpr std::size_t kPanelsMax = 8;
// Supers whose inputs are brought together at once, for all panels of a call: 200 KB, of which the
// second-level cache gives back what is wanted next. Longer rows are done in parts.
constexpr std::size_t kSupersMax = 8;
// Supers between the one in work and the one that is fetched.
constexpr std::size_t kSupersAhead = 3;

using Tile = std::uint8_t[kTileRows][kTileBytes];

// A super of one panel as tile instructions take it: row g of a chunk has 4 inputs of 16 outputs.
struct alignas(base::kCacheLine) Weights {
  Tile low[kChunks];
  Tile high[kChunks];
  Tile mins;  // bf16, each twice; rows from kSubs on are zero
  float d[kLanes];
  float dmin[kLanes];
};

// The same 256 inputs of some rows. What a last tile reads beyond them is not looked at.
struct alignas(base::kCacheLine) Rows {
  std::int8_t quants[kChunks][kRowsMax + kTileRows][kTileBytes];
  // The sum of each 32 inputs as two bf16 numbers that are exact; bytes beyond are zero.
  std::uint8_t sums[kRowsMax + kTileRows][kTileBytes];
  float scales[kRowsMax];
};

struct alignas(base::kCacheLine) Sums {
  std::int32_t low[kTileRows][kLanes];
  std::int32_t high[kTileRows][kLanes];
  float mins[kTileRows][kLanes];
};

using Outputs = float[kLanes];  // of a row

// The 64 bytes that LDTILECFG reads.
struct alignas(base::kCacheLine) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// Registers 0 to 3 take sums and 4 and 5 the inputs of `rows` rows; 6 and 7 take weights.
void configure_tiles(std::size_t rows) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = kTileBytes;
    config.rows[i] = static_cast<std::uint8_t>(i < 6 ? rows : kTileRows);
  }
  asm volatile("ldtilecfg %0" ::"m"(config));
}

// Tile instructions. gcc 12's intrinsics do not say what memory they read.
template <int kTile, std::size_t kOffset = 0>
void load_tile(const void* rows) {
  asm volatile("tileloadd %c3(%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(kTileBytes), "i"(kTile),
               "i"(kOffset)
               : "memory");
}
template <int kTile, std::size_t kOffset>
void store_tile(void* rows) {
  asm volatile("tilestored %%tmm%c2, %c3(%0,%1,1)" ::"r"(rows), "r"(kTileBytes), "i"(kTile),
               "i"(kOffset)
               : "memory");
}
template <int kTile>
void clear_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
// Adds the products of signed inputs with weights that have a sign or not; of bf16 inputs.
template <int kSum, int kInputs, int kWeights, bool kSigned>
void add_products() {
  if constexpr (kSigned) {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kInputs), "i"(kWeights));
  } else {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kInputs), "i"(kWeights));
  }
}
template <int kSum, int kInputs, int kWeights>
void add_bf16_products() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kInputs), "i"(kWeights));
}
void release_tiles() { asm volatile("tilerelease"); }

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

// Takes the parts of a fetch in turn.
struct Fetching {
  Fetch fetch;
  std::size_t parts;
  std::size_t next = 0;

  void some() { fetch.part(next++, parts); }
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

// Copies 256 inputs from `column` on of rows [first, first + count) of a product.
template <bool kHasMins>
void prepare_rows(const Product& product, std::size_t first, std::size_t count, std::size_t column,
                  Rows& out) {
  for (std::size_t r = 0; r < count; ++r) {
    const std::size_t row = product.index != nullptr ? product.index[first + r] : first + r;
    const std::size_t at = row * product.x.columns + column;
    for (std::size_t c = 0; c < kChunks; ++c) {
      std::memcpy(out.quants[c][r], product.x.quants + at + c * kTileBytes, kTileBytes);
    }
    out.scales[r] = product.x.scales[at / kRowBlock];
    if constexpr (kHasMins) {  // sum = low + high, low in [0, 128), high a multiple of 128
      const __m512i sums = _mm512_cvtepi16_epi32(_mm256_castsi128_si256(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(product.x.sums.sums + at / kRowBlock))));
      const __m512i low = _mm512_and_si512(sums, _mm512_set1_epi32(127));
      const __m512i high = _mm512_sub_epi32(sums, low);
      const __m512i pair =
          _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(low)), 16),
                          _mm512_castps_si512(_mm512_cvtepi32_ps(high)));
      _mm512_store_si512(out.sums[r], _mm512_maskz_mov_epi32(0x00FF, pair));
    }
  }
}

// One tile of rows, or two (kTiles) that use each tile of weights that was loaded, times a super.
// The first tile is rows [row, row + height), the second the next `height`.
template <class Format, std::size_t kTiles>
[[gnu::noinline]] void multiply_super(const Weights& weights, const Rows& rows, std::size_t row,
                                      std::size_t height, Fetching& fetching, Sums (&sums)[2]) {
  constexpr bool kTwo = kTiles == 2;
  constexpr bool kSigned = Format::kSignedHigh;
  constexpr std::size_t kChunkBytes = sizeof rows.quants[0];
  const std::int8_t* const first = rows.quants[0][row];
  const std::int8_t* const second = rows.quants[0][row + height];
  if constexpr (Format::kHasMins) {
    clear_tile<0>();
    load_tile<6, offsetof(Weights, mins)>(&weights);
    load_tile<4>(rows.sums[row]);
    add_bf16_products<0, 4, 6>();
    store_tile<0, offsetof(Sums, mins)>(&sums[0]);
    if constexpr (kTwo) {
      clear_tile<2>();
      load_tile<5>(rows.sums[row + height]);
      add_bf16_products<2, 5, 6>();
      store_tile<2, offsetof(Sums, mins)>(&sums[1]);
    }
  }
  clear_tile<0>();
  clear_tile<1>();
  if constexpr (kTwo) {
    clear_tile<2>();
    clear_tile<3>();
  }
  each<kChunks>([&](auto c) {
    load_tile<6, offsetof(Weights, low) + c * sizeof(Tile)>(&weights);
    load_tile<4, c * kChunkBytes>(first);
    add_products<0, 4, 6, false>();
    load_tile<7, offsetof(Weights, high) + c * sizeof(Tile)>(&weights);
    add_products<1, 4, 7, kSigned>();
    if constexpr (kTwo) {
      load_tile<5, c * kChunkBytes>(second);
      add_products<2, 5, 6, false>();
      add_products<3, 5, 7, kSigned>();
    }
    fetching.some();
  });
  store_tile<0, offsetof(Sums, low)>(&sums[0]);
  store_tile<1, offsetof(Sums, high)>(&sums[0]);
  if constexpr (kTwo) {
    store_tile<2, offsetof(Sums, low)>(&sums[1]);
    store_tile<3, offsetof(Sums, high)>(&sums[1]);
  }
}

// Adds what a super gives to the outputs of `count` rows; the first one starts them.
template <class Format>
[[gnu::noinline]] void add_sums(const Weights& weights, const Sums& sums, const float* scales,
                                std::size_t count, bool is_first, Outputs* y) {
  const __mmask16 old = is_first ? 0 : 0xFFFF;
  const __m512 d = _mm512_load_ps(weights.d);
  const __m512 dmin = Format::kHasMins ? _mm512_load_ps(weights.dmin) : _mm512_setzero_ps();
#pragma GCC unroll 4
  for (std::size_t r = 0; r < count; ++r) {
    const __m512 scale = _mm512_set1_ps(scales[r]);
    __m512 acc = _mm512_maskz_load_ps(old, y[r]);
    if constexpr (Format::kHasMins) {
      acc = _mm512_fnmadd_ps(_mm512_mul_ps(_mm512_load_ps(sums.mins[r]), dmin), scale, acc);
    }
    const __m512i high = _mm512_slli_epi32(_mm512_load_si512(sums.high[r]), Format::kStepBits);
    const __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums.low[r]), high);
    acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), d), scale, acc);
    _mm512_store_ps(y[r], acc);
  }
}

// What a call works with, 250 KB.
struct Room {
  Weights weights;
  Rows rows[kSupersMax];
  Sums sums[2];
  Outputs outputs[kPanelsMax][kRowsMax];
};

// Part of a product: `count` rows from `first` on, in tiles of `height`, and `supers` supers from
// `super` on. Room::rows has these inputs.
struct Part {
  std::size_t first;
  std::size_t count;
  std::size_t height;
  std::size_t super;
  std::size_t supers;
};

// One super of a panel times all rows; fetches `next`.
template <class Format>
void add_super(const std::uint8_t* super, const std::uint8_t* next, const Part& part,
               const Rows& rows, bool is_first, Room& room, Outputs* y) {
  const std::size_t height = part.height;
  const std::size_t pairs = (part.count + 2 * height - 1) / (2 * height);
  Fetching fetching{{next, Format::Layout::kBytes}, kSubs + pairs * kChunks};
  Format::prepare(super, room.weights, fetching);
  for (std::size_t row = 0; row < part.count; row += 2 * height) {
    const bool two = row + height < part.count;
    const auto multiply = two ? multiply_super<Format, 2> : multiply_super<Format, 1>;
    multiply(room.weights, rows, row, height, fetching, room.sums);
    for (std::size_t i = 0; i < (two ? 2 : 1); ++i) {
      const std::size_t at = row + i * height;
      add_sums<Format>(room.weights, room.sums[i], rows.scales + at,
                       std::min(height, part.count - at), is_first, y + at);
    }
  }
}

// Calls body(y, outputs, mask) for each row of a part and each of `panels` panels: where the row's
// outputs of the panel start in the product, in the room, and which of them there are.
template <class Body>
void each_output(const Product& product, std::size_t panel, std::size_t panels, const Part& part,
                 Room& room, const Body& body) {
  const std::size_t outputs = product.weights->outputs() - panel * kPanelOutputs;
  const auto last = static_cast<__mmask16>(
      (1u << (std::min(outputs, panels * kPanelOutputs) - (panels - 1) * kPanelOutputs)) - 1);
  float* y = product.y + part.first * product.y_stride + panel * kPanelOutputs;
  for (std::size_t r = 0; r < part.count; ++r, y += product.y_stride) {
    for (std::size_t p = 0; p + 1 < panels; ++p) {
      body(y + p * kPanelOutputs, room.outputs[p][r], __mmask16{0xFFFF});
    }
    body(y + (panels - 1) * kPanelOutputs, room.outputs[panels - 1][r], last);
  }
}

// At most kPanelsMax panels times a part. Supers go outside of panels, so that 256 inputs of all
// rows stay in the first-level cache. Outputs of later parts go on from what is in y.
template <class Format>
void multiply_block(const Product& product, std::size_t panel, std::size_t panels, const Part& part,
                    Room& room) {
  constexpr std::size_t kBytes = Format::Layout::kBytes;
  const std::size_t panel_bytes = product.x.columns / kSuper * kBytes;
  const std::uint8_t* const weights = product.weights->panel(panel) + part.super * kBytes;
  const std::size_t count = part.supers * panels;
  // Supers in the order in which they are wanted; what follows the last ones are the next panels.
  const auto super_at = [&](std::size_t i) {
    return weights + (i < count ? i % panels * panel_bytes + i / panels * kBytes
                                : panels * panel_bytes + (i - count) * panel_bytes);
  };
  if (part.super > 0) {
    each_output(product, panel, panels, part, room, [](const float* y, float* out, __mmask16 mask) {
      _mm512_store_ps(out, _mm512_maskz_loadu_ps(mask, y));
    });
  }
  for (std::size_t s = 0, i = 0; s < part.supers; ++s) {
    for (std::size_t p = 0; p < panels; ++p, ++i) {
      add_super<Format>(super_at(i), super_at(i + kSupersAhead), part, room.rows[s],
                        part.super + s == 0, room, room.outputs[p]);
    }
  }
  each_output(product, panel, panels, part, room, [](float* y, const float* out, __mmask16 mask) {
    _mm512_mask_storeu_ps(y, mask, _mm512_load_ps(out));
  });
}

template <class Format>
void multiply_part(const Product& product, std::size_t panel_begin, std::size_t panel_end,
                   const Part& part, Room& room) {
  for (std::size_t s = 0; s < part.supers; ++s) {
    prepare_rows<Format::kHasMins>(product, part.first, part.count, (part.super + s) * kSuper,
                                   room.rows[s]);
  }
  for (std::size_t panel = panel_begin; panel < panel_end; panel += kPanelsMax) {
    multiply_block<Format>(product, panel, std::min(kPanelsMax, panel_end - panel), part, room);
  }
}

template <class Format>
void multiply(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  Room room;
  std::memset(room.weights.mins, 0, sizeof room.weights.mins);
  const std::size_t blocks = (product.count + kRowsMax - 1) / kRowsMax;
  const std::size_t supers = product.x.columns / kSuper;
  for (std::size_t i = 0, row = 0; i < blocks; ++i) {
    const std::size_t count = (product.count - row) / (blocks - i);
    const std::size_t tiles = (count + kTileRows - 1) / kTileRows;
    const std::size_t height = (count + tiles - 1) / tiles;
    configure_tiles(height);
    for (std::size_t super = 0; super < supers; super += kSupersMax) {
      multiply_part<Format>(product, panel_begin, panel_end,
                            {row, count, height, super, std::min(kSupersMax, supers - super)},
                            room);
    }
    row += count;
  }
  release_tiles();
}

// Fewer rows are as fast or faster without tiles, which cost the preparing of each super.
constexpr std::size_t kLeastRows = 9;

}  // namespace

void multiply_on_tiles(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  if (product.count >= kLeastRows) {
    switch (product.weights->type()) {
      case gguf::BlockType::kQ4_K:
        return multiply<Q4K>(product, panel_begin, panel_end);
      case gguf::BlockType::kQ5_K:
        return multiply<Q5K>(product, panel_begin, panel_end);
      case gguf::BlockType::kQ6_K:
        return multiply<Q6K>(product, panel_begin, panel_end);
      default:
        break;
    }
  }
  kAvx512Table.matmul(product, panel_begin, panel_end);
}

}  // namespace conclave::kernels
