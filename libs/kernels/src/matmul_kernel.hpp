// The matrix product kernels, written once over a Simd backend and compiled for each instruction
// set. A tile is one panel (16 outputs) times up to kTileRows rows; tiles go over the rows first,
// so that a panel is read from memory once and then found in the first-level caches. Few rows may
// take four panels at a time (see kStreams).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "block_formats.hpp"
#include "conclave/base/aligned.hpp"
#include "conclave/kernels/kernel_table.hpp"
#include "layout.hpp"
#include "tables.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

std::size_t row_of(const Product& product, std::size_t i) {
  return product.index != nullptr ? product.index[i] : i;
}

// Stores the outputs of a panel from `lane` on for rows [first, first + kRows); the last panel may
// be short.
template <class S, std::size_t kRows>
void store_outputs(const Product& product, std::size_t panel, std::size_t lane, std::size_t first,
                   const typename S::F32 (&values)[kRows]) {
  const std::size_t output = panel * kPanelOutputs + lane;
  const std::size_t outputs = product.weights->outputs();
  float* const y = product.y + first * product.y_stride + output;
  if (output + S::kLanes <= outputs) {
    each<kRows>([&](auto r) { S::store(y + r * product.y_stride, values[r]); });
  } else if (output < outputs) {
    float room[kRows][S::kLanes];
    each<kRows>([&](auto r) { S::store(room[r], values[r]); });
    for (std::size_t r = 0; r < kRows; ++r) {
      std::memcpy(y + r * product.y_stride, room[r], (outputs - output) * sizeof(float));
    }
  }
}

// Rows of a tile, at most: as many as registers hold beside the weights of one panel.
template <class S>
constexpr std::size_t kTileRows = S::kLanes == 16 ? 8 : 4;

template <std::size_t kRows>
TileRows<kRows> tile_rows(const Product& product, std::size_t first) {
  TileRows<kRows> rows;
  rows.quants = product.x.quants;
  rows.scales = reinterpret_cast<const std::uint8_t*>(product.x.scales);
  rows.offsets = reinterpret_cast<const std::uint8_t*>(product.x.sums.offsets);
  rows.half_offsets = reinterpret_cast<const std::uint8_t*>(product.x.sums.half_offsets);
  rows.block_sums = reinterpret_cast<const std::uint8_t*>(product.x.sums.sums);
  for (std::size_t r = 0; r < kRows; ++r) {
    rows.index[r] = row_of(product, first + r) * (product.x.columns / 8);
  }
  return rows;
}

// What a tile fetches on its way: weights, and at its start the lines that its outputs go to.
// Stores leave in their order: one that waits for its line holds up those behind it, of registers
// too, until no more can be issued (Zen 4: 1.1 times as long where outputs are more than the caches
// hold).
struct Prefetch {
  FetchKind kind = FetchKind::kParts;
  const std::uint8_t* weights = nullptr;
  std::size_t bytes = 0;  // a super; kParts
  bool outputs = false;
};

// Lines that are wanted one soon after the other are foreseen by AMD's processors, and fetching
// them by hand as well is slower; where more is computed between them, they wait for nearly each
// (Zen 4: 8 rows an expert take 1.2 to 1.5 times as long, expert_set_bench). Intel's foresee less
// (a Xeon with AMX: one row takes 1.2, 4 rows 1.4 times as long), and while the second-level cache
// waits for memory, what it has comes late as well: there a tile that is ahead of itself asks for
// lines a second time, into the first-level cache (4 rows an expert take 0.90 to 0.95 of the time).
struct PrefetchRule {
  std::size_t least_rows;
  // A single tile is so many bytes ahead of itself. Of several, each fetches its part of the next
  // panel: otherwise memory has nothing to do while all but the first find the panel in the caches.
  std::size_t ahead;
  bool twice;  // see FetchKind
};
constexpr std::size_t kIntelAhead = 3 << 10;
static_assert(kIntelAhead - kBehind == 1280);  // bytes ahead the second time
template <class S, class Format>
PrefetchRule prefetch_rule() {
  if (__builtin_cpu_is("intel") != 0) return {1, kIntelAhead, true};
  return {S::kLanes == 16 && !Format::kIsSlow ? std::size_t{5} : std::size_t{2}, 6 << 10, false};
}
// Panels of which this one and the next may be too much for a second-level cache beside the rows.
constexpr std::size_t kPrefetchPanelMax = 256 << 10;

// For tile `i` of `tiles`, which has `rows` rows.
template <class S, class Format>
Prefetch prefetch_of(const Product& product, std::size_t panel, std::size_t i, std::size_t tiles,
                     std::size_t rows) {
  using Layout = typename Format::Layout;
  const std::size_t bytes = product.x.columns / Layout::kInputs * Layout::kBytes;
  const std::uint8_t* const weights = product.weights->panel(panel);
  const PrefetchRule rule = prefetch_rule<S, Format>();
  Prefetch out;
  if (tiles > 1 && bytes <= kPrefetchPanelMax) {
    out.weights = weights + bytes + i * bytes / tiles;
    out.bytes = Layout::kBytes / tiles;
    out.outputs = true;
  } else if (i == 0 && (tiles > 1 || rows >= rule.least_rows)) {
    // Of one row of one panel so little is computed that nothing is gained by asking twice.
    out.kind = rule.twice && rows > 1 ? FetchKind::kLinesTwice : FetchKind::kLines;
    out.weights = weights + rule.ahead;
  }
  return out;
}

// kRows rows from `first` on times S::kLanes outputs, from `lane` on, of kPanels panels, each
// `step` behind the one before. Flattened: what it calls works on registers.
template <class S, class Format, std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
[[gnu::flatten]] void lanes_tile(const Product& product, std::size_t panel, std::size_t step,
                                 std::size_t lane, std::size_t first, Fetch<kFetch> fetch) {
  using Layout = typename Format::Layout;
  const std::uint8_t* const weights = product.weights->panel(panel);
  const std::size_t bytes = product.x.columns / Layout::kInputs * Layout::kBytes;
  TileRows<kRows> rows = tile_rows<kRows>(product, first);
  typename S::F32 acc[kPanels][kRows];
  each<kPanels>([&](auto p) { each<kRows>([&](auto r) { acc[p][r] = S::zero(); }); });
  for (Supers supers{weights, step * bytes}; supers.first != weights + bytes;
       supers.first += Layout::kBytes) {
    Format::add(acc, supers, lane, rows, fetch);
    fetch.at += kFetch == FetchKind::kParts ? fetch.bytes : Layout::kBytes;
  }
  each<kPanels>([&](auto p) { store_outputs<S>(product, panel + p * step, lane, first, acc[p]); });
}

// Streams: runs of neighbouring panels that are worked on at the same time, a sub block of each in
// turn. Lines of several pages come faster than those of one, and chains of dot products of several
// panels wait less for each other (a Xeon with AMX, `expert_set`: experts with 8 rows each take
// 0.89 of the time with Q4_K and 0.86 with Q6_K, with 1 row 0.91 and 0.89). Two streams give half
// of that, eight no more, and neighbouring panels nothing. Sums of many rows wait in the
// first-level cache for their panel's turn.
constexpr std::size_t kStreams = 4;
constexpr std::size_t kStreamPanels = 2;  // of a stream, at least
static_assert(kStreams * kStreamPanels == kLeastStreamPanels);
constexpr std::size_t kStreamAhead = 2560;

// kRows rows, all of a product, times kStreams streams of `count` panels.
template <class S, class Format, std::size_t kRows>
void stream_tiles(const Product& product, std::size_t panel, std::size_t count) {
  if (product.count < kRows) {
    if constexpr (kRows > 1) stream_tiles<S, Format, kRows - 1>(product, panel, count);
    return;
  }
  for (std::size_t i = panel; i < panel + count; ++i) {
    const Fetch<FetchKind::kLinesTwice> fetch{product.weights->panel(i) + kStreamAhead};
    lanes_tile<S, Format, kStreams, kRows>(product, i, count, 0, 0, fetch);
  }
}

// Intel only: on Zen 4 a server gives 0.97 times the tokens with streams of up to 4 rows.
bool streams_suit(const Product& product, std::size_t rows_max) {
  return product.count <= rows_max && __builtin_cpu_is("intel") != 0;
}

// Takes the panels from `begin` on that go in streams. kRowsMax: of a tile.
template <class S, class Format, std::size_t kRowsMax>
void take_streams(const Product& product, std::size_t& begin, std::size_t end) {
  if constexpr (S::kLanes == kPanelOutputs) {
    const std::size_t count = (end - begin) / kStreams;
    if (count < kStreamPanels || !streams_suit(product, kRowsMax)) return;
    stream_tiles<S, Format, kRowsMax>(product, begin, count);
    begin += kStreams * count;
  }
}

// kRows rows from `first` on times one panel.
template <class S, class Format, std::size_t kRows, FetchKind kFetch>
void block_tile(const Product& product, std::size_t panel, std::size_t first,
                const Prefetch& prefetch) {
  for (std::size_t r = 0; r < kRows && prefetch.outputs; ++r) {
    __builtin_prefetch(product.y + (first + r) * product.y_stride + panel * kPanelOutputs, 1);
  }
  lanes_tile<S, Format, 1, kRows>(product, panel, 0, 0, first,
                                  Fetch<kFetch>{prefetch.weights, prefetch.bytes});
  for (std::size_t lane = S::kLanes; lane < kPanelOutputs; lane += S::kLanes) {
    lanes_tile<S, Format, 1, kRows>(product, panel, 0, lane, first,
                                    Fetch<FetchKind::kParts>{});  // all is on its way
  }
}

template <class S>
struct F32Format {
  static constexpr std::size_t kBytes = 4;
  static typename S::F32 load(const std::uint8_t* p) {
    return S::load(reinterpret_cast<const float*>(p));
  }
};
template <class S>
struct F16Format {
  static constexpr std::size_t kBytes = 2;
  static typename S::F32 load(const std::uint8_t* p) { return S::load_f16(p); }
};
template <class S>
struct Bf16Format {
  static constexpr std::size_t kBytes = 2;
  static typename S::F32 load(const std::uint8_t* p) { return S::load_bf16(p); }
};

template <class S, class Format, std::size_t kRows>
[[gnu::flatten]] void float_tile(const Product& product, std::size_t panel, std::size_t first) {
  constexpr std::size_t kVectors = kPanelOutputs / S::kLanes;
  const std::size_t columns = product.x.columns;
  const float* x[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    x[r] = product.x.values + row_of(product, first + r) * columns;
  }
  typename S::F32 acc[kVectors][kRows];
  each<kVectors>([&](auto v) { each<kRows>([&](auto r) { acc[v][r] = S::zero(); }); });
  const std::uint8_t* weights = product.weights->panel(panel);
  for (std::size_t k = 0; k < columns; ++k, weights += kPanelOutputs * Format::kBytes) {
    each<kVectors>([&](auto v) {
      const auto w = Format::load(weights + v * S::kLanes * Format::kBytes);
      each<kRows>([&](auto r) { acc[v][r] = S::fma(w, S::set1(x[r][k]), acc[v][r]); });
    });
  }
  each<kVectors>([&](auto v) { store_outputs<S>(product, panel, v * S::kLanes, first, acc[v]); });
}

// A tile of `count` rows, at most kRows.
template <class S, class Format, bool kBlocks, std::size_t kRows>
void tile(const Product& product, std::size_t panel, std::size_t first, std::size_t count,
          const Prefetch& prefetch) {
  if (count < kRows) {
    if constexpr (kRows > 1) {
      tile<S, Format, kBlocks, kRows - 1>(product, panel, first, count, prefetch);
    }
  } else if constexpr (kBlocks) {
    switch (prefetch.kind) {
      case FetchKind::kParts:
        return block_tile<S, Format, kRows, FetchKind::kParts>(product, panel, first, prefetch);
      case FetchKind::kLinesTwice:
        if constexpr (kRows > 1) {
          return block_tile<S, Format, kRows, FetchKind::kLinesTwice>(product, panel, first,
                                                                      prefetch);
        }
        [[fallthrough]];  // one row is never asked for twice, see prefetch_of
      case FetchKind::kLines:
        return block_tile<S, Format, kRows, FetchKind::kLines>(product, panel, first, prefetch);
    }
  } else {
    float_tile<S, Format, kRows>(product, panel, first);
  }
}

// In tiles of at most kRows rows.
template <class S, class Format, bool kBlocks, std::size_t kRows = kTileRows<S>>
void multiply(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  if constexpr (kBlocks) take_streams<S, Format, kRows>(product, panel_begin, panel_end);
  // As few tiles as there can be, and rows shared evenly: 9 rows are 4 + 5, not 8 + 1.
  const std::size_t tiles = (product.count + kRows - 1) / kRows;
  for (std::size_t panel = panel_begin; panel < panel_end; ++panel) {
    for (std::size_t i = 0, row = 0; i < tiles; ++i) {
      const std::size_t count = (product.count - row) / (tiles - i);
      Prefetch prefetch;  // panels of floats are read as fast as memory gives them
      if constexpr (kBlocks) prefetch = prefetch_of<S, Format>(product, panel, i, tiles, count);
      tile<S, Format, kBlocks, kRows>(product, panel, row, count, prefetch);
      row += count;
    }
  }
}

// On Intel's processors a 32-bit product is two operations of the ports that dot products take, and
// few rows wait for their chains of eight dots: 4 rows an expert take 0.97 of the time with halves
// (expert_set_bench). AMD's would have one operation more on the busy ports.
constexpr std::size_t kHalvesRows = 4;

template <class S>
void multiply_q4k(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  if constexpr (S::kLanes == 16) {
    if (product.count <= kHalvesRows && __builtin_cpu_is("intel") != 0) {
      using Format = Q4KFormat<S, SubDots::kHalves>;
      return multiply<S, Format, true, kHalvesRows>(product, panel_begin, panel_end);
    }
  }
  multiply<S, Q4KFormat<S>, true>(product, panel_begin, panel_end);
}

template <class S>
void multiply_any(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  switch (product.weights->type()) {
    case gguf::BlockType::kF32:
      return multiply<S, F32Format<S>, false>(product, panel_begin, panel_end);
    case gguf::BlockType::kF16:
      return multiply<S, F16Format<S>, false>(product, panel_begin, panel_end);
    case gguf::BlockType::kBF16:
      return multiply<S, Bf16Format<S>, false>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ8_0:
      return multiply<S, Q8Format<S>, true>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ4_0:
      return multiply<S, Q4Format<S>, true>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ4_K:
      return multiply_q4k<S>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ5_K:
      return multiply<S, Q5KFormat<S>, true>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ6_K:
      return multiply<S, Q6KFormat<S>, true>(product, panel_begin, panel_end);
    case gguf::BlockType::kMXFP4:
      return multiply<S, Mxfp4Format<S>, true>(product, panel_begin, panel_end);
  }
}

}  // namespace
}  // namespace conclave::kernels
