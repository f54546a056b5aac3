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

#include "amx_weights.hpp"
#include "conclave/base/aligned.hpp"
#include "tables.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

// Rows for which a super of weights is prepared once. 96 rows with their weights and outputs are a
// little more than a first-level cache holds, which costs less than preparing weights again: with
// 64, half of the experts of a prompt of 512 rows would.
constexpr std::size_t kRowsMax = 96;
// Panels that take turns with the same super of the rows.
constexpr std::size_t kPanelsMax = 8;
// Up to so many rows they are far apart, like the streams of matmul_kernel.hpp: experts with 16
// rows each take 0.96 of the time. With 64 rows, which are less about memory, outputs of a row that
// lie apart cost more than that (Q6_K: 1.08).
constexpr std::size_t kSpreadRows = 32;
// Supers of which the rows' inputs are brought together at once, for all panels of a call: 280 KB,
// from which the second-level cache serves each kPanelsMax panels. Longer rows are done in parts.
constexpr std::size_t kSupersMax = 8;
// Supers between the one in work and the one that is fetched.
constexpr std::size_t kSupersAhead = 3;

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

// What a call works with.
struct Room {
  Weights weights;
  Rows rows[kSupersMax];
  Sums sums[2];
  Outputs outputs[kPanelsMax][kRowsMax];
};
static_assert(sizeof(Room) <= 360 << 10, "it lies on the stack");

// `count` rows from `first` on, in tiles of `height`, and of their inputs `supers` supers from
// `super` on: what Room::rows has.
struct Slab {
  std::size_t first;
  std::size_t count;
  std::size_t height;
  std::size_t super;
  std::size_t supers;
};

// One super of a panel times all rows; fetches `next` and `lines`.
template <class Format>
void add_super(const std::uint8_t* super, const std::uint8_t* next, const OutputLines& lines,
               const Slab& slab, const Rows& rows, bool is_first, Room& room, Outputs* y) {
  const std::size_t height = slab.height;
  const std::size_t pairs = (slab.count + 2 * height - 1) / (2 * height);
  Fetching fetching{{next, Format::Layout::kBytes}, kSubs + pairs * kChunks, lines};
  Format::prepare(super, room.weights, fetching);
  for (std::size_t row = 0; row < slab.count; row += 2 * height) {
    const bool two = row + height < slab.count;
    const auto multiply = two ? multiply_super<Format, 2> : multiply_super<Format, 1>;
    multiply(room.weights, rows, row, height, fetching, room.sums);
    for (std::size_t i = 0; i < (two ? 2 : 1); ++i) {
      const std::size_t at = row + i * height;
      add_sums<Format>(room.weights, room.sums[i], rows.scales + at,
                       std::min(height, slab.count - at), is_first, y + at);
    }
  }
}

// Panels `first`, first + step and so on.
struct Panels {
  std::size_t first;
  std::size_t step;
  std::size_t count;  // at most kPanelsMax

  [[nodiscard]] std::size_t operator[](std::size_t i) const { return first + i * step; }
};

// Calls body(y, out, lanes) for each row of a slab and each panel: where the row's outputs of the
// panel start in the product and in the room, and which of them there are.
template <class Body>
void each_output(const Product& product, const Panels& panels, const Slab& slab, Room& room,
                 const Body& body) {
  const std::size_t left = product.weights->outputs() - panels[panels.count - 1] * kPanelOutputs;
  const auto last = static_cast<__mmask16>((1u << std::min(left, kPanelOutputs)) - 1);
  for (std::size_t r = 0; r < slab.count; ++r) {
    float* const y = product.y + (slab.first + r) * product.y_stride;
    for (std::size_t p = 0; p < panels.count; ++p) {
      body(y + panels[p] * kPanelOutputs, room.outputs[p][r],
           p + 1 < panels.count ? __mmask16{0xFFFF} : last);
    }
  }
}

// Some panels times a slab. Supers go outside of panels, so that these find the rows in the first
// caches. Where the slab is not a row's first, outputs go on from what is in y.
template <class Format>
void multiply_panels(const Product& product, const Panels& panels, const Slab& slab, Room& room) {
  constexpr std::size_t kBytes = Format::Layout::kBytes;
  const std::size_t panel_bytes = product.x.columns / kSuper * kBytes;
  const std::uint8_t* const weights = product.weights->panel(panels.first) + slab.super * kBytes;
  const std::size_t step_bytes = panels.step * panel_bytes;
  const std::size_t group_bytes = (panels.step > 1 ? 1 : panels.count) * panel_bytes;
  const std::size_t steps = slab.supers * panels.count;
  // Supers in the order in which they are wanted. What follows the last ones is in the next panels:
  // behind the last panels of a call, some supers are fetched in vain.
  const auto super_at = [&](std::size_t i) {
    return weights + (i < steps ? i % panels.count * step_bytes + i / panels.count * kBytes
                                : group_bytes + (i - steps) * step_bytes);
  };
  if (slab.super > 0) {
    each_output(product, panels, slab, room, [](const float* y, float* out, __mmask16 lanes) {
      _mm512_store_ps(out, _mm512_maskz_loadu_ps(lanes, y));
    });
  }
  for (std::size_t s = 0, i = 0; s < slab.supers; ++s) {
    // Each super fetches its part of where the outputs will go, as far as its fetch has parts.
    const std::size_t row = slab.count * s / slab.supers;
    const std::size_t rows = slab.count * (s + 1) / slab.supers - row;
    const float* const y = product.y + (slab.first + row) * product.y_stride;
    for (std::size_t p = 0; p < panels.count; ++p, ++i) {
      add_super<Format>(super_at(i), super_at(i + kSupersAhead),
                        {y + panels[p] * kPanelOutputs, product.y_stride, rows}, slab, room.rows[s],
                        slab.super + s == 0, room, room.outputs[p]);
    }
  }
  each_output(product, panels, slab, room, [](float* y, const float* out, __mmask16 lanes) {
    _mm512_mask_storeu_ps(y, lanes, _mm512_load_ps(out));
  });
}

// Brings the inputs of a slab together, then takes it to all panels.
template <class Format>
void multiply_slab(const Product& product, std::size_t panel_begin, std::size_t panel_end,
                   const Slab& slab, Room& room) {
  for (std::size_t s = 0; s < slab.supers; ++s) {
    prepare_rows<Format::kHasMins>(product, slab.first, slab.count, (slab.super + s) * kSuper,
                                   room.rows[s]);
  }
  const std::size_t panels = panel_end - panel_begin;
  const std::size_t groups = (panels + kPanelsMax - 1) / kPanelsMax;
  const bool spread = slab.count <= kSpreadRows;
  for (std::size_t g = 0, panel = panel_begin; g < groups; ++g) {
    const std::size_t count = (panels - g + groups - 1) / groups;
    multiply_panels<Format>(product, {panel, spread ? groups : 1, count}, slab, room);
    panel += spread ? 1 : count;
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
      const Slab slab{.first = row,
                      .count = count,
                      .height = height,
                      .super = super,
                      .supers = std::min(kSupersMax, supers - super)};
      multiply_slab<Format>(product, panel_begin, panel_end, slab, room);
    }
    row += count;
  }
  release_tiles();
}

// Fewer rows are as fast or faster without tiles, which cost the preparing of each super.
constexpr std::size_t kLeastRows = 9;

// What multiplies such a product on tiles; null where tiles do not suit it.
decltype(KernelTable::matmul) on_tiles(const Product& product) {
  if (product.count < kLeastRows) return nullptr;
  switch (product.weights->type()) {
    case gguf::BlockType::kQ4_K:
      return multiply<Q4K>;
    case gguf::BlockType::kQ5_K:
      return multiply<Q5K>;
    case gguf::BlockType::kQ6_K:
      return multiply<Q6K>;
    default:
      return nullptr;
  }
}

}  // namespace

bool takes_tiles(const Product& product) { return on_tiles(product) != nullptr; }

void multiply_on_tiles(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  const auto tiles = on_tiles(product);
  (tiles != nullptr ? tiles : kAvx512Table.matmul)(product, panel_begin, panel_end);
}

}  // namespace conclave::kernels
