// The matrix product kernels, written once over a Simd backend and compiled for each instruction
// set. A tile is one panel (16 outputs) times up to kTileRows rows; tiles go over the rows first,
// so that a panel is read from memory once and then found in the first-level caches. Many rows take
// two panels at a time (see sets_suit), and on Intel few rows four that lie apart (see kStreams).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "block_formats.hpp"
#include "conclave/base/aligned.hpp"
#include "conclave/kernels/kernel_table.hpp"
#include "layout.hpp"
#include "microarch.hpp"
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

template <class Format>
std::size_t panel_bytes(const Product& product) {
  return product.x.columns / Format::Layout::kInputs * Format::Layout::kBytes;
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

// body(std::integral_constant<std::size_t, count>) for a count in [kLeast, kMost].
template <std::size_t kMost, std::size_t kLeast = 1, class Body>
void with_count(std::size_t count, const Body& body) {
  if constexpr (kMost > kLeast) {
    if (count < kMost) return with_count<kMost - 1, kLeast>(count, body);
  }
  body(std::integral_constant<std::size_t, kMost>{});
}

// The rows of tile `tile` of `tiles`.
struct Rows {
  std::size_t first;
  std::size_t count;
  std::size_t tile;
  std::size_t tiles;
};

// body(rows) for as few tiles as there can be, with rows shared evenly: 9 rows are 4 + 5, not 8
// + 1.
template <class Body>
void each_tile(const Product& product, std::size_t rows_max, const Body& body) {
  const std::size_t tiles = (product.count + rows_max - 1) / rows_max;
  for (std::size_t i = 0, first = 0; i < tiles; ++i) {
    const std::size_t count = (product.count - first) / (tiles - i);
    body(Rows{first, count, i, tiles});
    first += count;
  }
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
// (Zen 4: 8 rows an expert take 1.2 to 1.5 times as long, expert_set_bench). For Zen 5 unpacking
// nibbles is enough (Q4_K: 1 row takes 1.5, 4 rows 1.9 times as long). Intel's foresee less (a
// Xeon with AMX: one row takes 1.2, 4 rows 1.4 times as long).
struct PrefetchRule {
  std::size_t least_rows;
  // A single tile is so many bytes ahead of itself. Of several, each fetches its part of the next
  // panel: otherwise memory has nothing to do while all but the first find the panel in the caches.
  std::size_t ahead;
};
template <class S, class Format>
PrefetchRule prefetch_rule() {
  constexpr bool kIsWide = S::kLanes == kPanelOutputs;
  switch (microarch()) {
    case Microarch::kIntel:
      return {1, 3 << 10};
    case Microarch::kZen5:
      return {Format::kUnpacking == Unpacking::kNone ? std::size_t{3} : std::size_t{1}, 6 << 10};
    case Microarch::kOther:
      break;
  }
  return {kIsWide && Format::kUnpacking != Unpacking::kParts ? std::size_t{5} : std::size_t{2},
          6 << 10};
}
// Panels of which this one and the next may be too much for a second-level cache beside the rows.
constexpr std::size_t kPrefetchPanelMax = 256 << 10;

// For a tile of kPanels neighbouring panels.
template <class S, class Format, std::size_t kPanels>
Prefetch prefetch_of(const Product& product, std::size_t panel, const Rows& rows) {
  const std::size_t bytes = panel_bytes<Format>(product);
  const std::uint8_t* const weights = product.weights->panel(panel);
  const PrefetchRule rule = prefetch_rule<S, Format>();
  Prefetch out;
  if (rows.tiles > 1 && bytes <= kPrefetchPanelMax) {
    out.weights = weights + kPanels * bytes + rows.tile * bytes / rows.tiles;
    out.bytes = Format::Layout::kBytes / rows.tiles;
    out.outputs = true;
  } else if (rows.tile == 0 && (rows.tiles > 1 || rows.count >= rule.least_rows)) {
    out.kind = FetchKind::kLines;
    out.weights = weights + rule.ahead;
  }
  return out;
}

// kRows rows from `first` on times S::kLanes outputs, from `lane` on, of panels that are `step`
// apart: kSets sets of kPanels. Flattened: what it calls works on registers. Not inlined: where it
// was, gcc kept the pointers of `rows` in a vector register, and they went by way of memory.
template <class S, class Format, std::size_t kSets, std::size_t kPanels, std::size_t kRows,
          FetchKind kFetch>
[[gnu::flatten, gnu::noinline]] void lanes_tile(const Product& product, std::size_t panel,
                                                std::size_t step, std::size_t lane,
                                                std::size_t first, Fetch<kFetch> fetch) {
  using Layout = typename Format::Layout;
  const std::uint8_t* const weights = product.weights->panel(panel);
  const std::size_t bytes = panel_bytes<Format>(product);
  TileRows<kRows> rows = tile_rows<kRows>(product, first);
  typename S::F32 acc[kSets][kPanels][kRows];
  for (auto& set : acc) {
    each<kPanels>([&](auto p) { each<kRows>([&](auto r) { set[p][r] = S::zero(); }); });
  }
  for (Supers supers{weights, step * bytes}; supers.first != weights + bytes;
       supers.first += Layout::kBytes) {
    Format::add(acc, supers, lane, rows, fetch);
    fetch.at += kFetch == FetchKind::kParts ? fetch.bytes : Layout::kBytes;
  }
  for (std::size_t set = 0; set < kSets; ++set) {
    each<kPanels>([&](auto p) {
      store_outputs<S>(product, panel + (set * kPanels + p) * step, lane, first, acc[set][p]);
    });
  }
}

// Which rows of a product are narrow (rows.hpp), and the form of a format for those, of which some
// have one of their own.
template <class S, class Format>
class NarrowRows {
  template <class Any>
  static auto form() {
    if constexpr (S::kLanes == kPanelOutputs && requires { typename Any::Narrow; }) {
      return typename Any::Narrow{};
    } else {
      return Any{};
    }
  }

 public:
  using Form = decltype(form<Format>());

  explicit NarrowRows(const Product& product) : product_(product), all_(narrow(0, product.count)) {}

  [[nodiscard]] bool all() const { return all_; }
  [[nodiscard]] bool of(const Rows& rows) const { return all_ || narrow(rows.first, rows.count); }

 private:
  const Product& product_;
  bool all_;

  [[nodiscard]] bool narrow(std::size_t first, std::size_t count) const {
    if constexpr (!std::is_same_v<Form, Format>) {
      const std::size_t size = product_.x.columns / kWideInputs;
      int wide = 0;
      for (std::size_t i = first; i < first + count; ++i) {
        const std::uint8_t* const row = product_.x.sums.wide + row_of(product_, i) * size;
        for (std::size_t k = 0; k < size; ++k) wide |= row[k];
      }
      return (wide & Format::kWide) == 0;
    }
    return true;
  }
};

// Sets: panels that share what is broadcast of a row. Intel's processors multiply 512 bits twice as
// often as they load them, broadcasts or not (Ice Lake: 2 dot products and 1.1 loads a cycle):
// experts with 16 and 64 rows each take 0.74 (Q8_0), 0.81 to 0.85 (Q4_K) and 0.92 to 0.95 (Q6_K) of
// the time (Ice Lake, `expert_set`). Zen 5 loads as often as it multiplies, and one panel with 8
// rows wants 9 loads for 8 dot products: with 64 rows each experts take 0.76, 0.87 and 0.90 of the
// time. On Zen 4 one panel keeps the pipes full that multiply.
constexpr std::size_t kSetRows = 6;  // as many as registers hold
constexpr std::size_t kLeastSetRows = 4;
constexpr std::size_t kLeastSetProduct = 9;  // shared evenly among tiles, no tile has fewer rows
static_assert(kLeastSetProduct / 2 >= kLeastSetRows && (2 * kSetRows + 1) / 3 >= kLeastSetRows);

inline bool sets_suit(const Product& product) {
  return product.count >= kLeastSetProduct && microarch() != Microarch::kOther;
}

// Streams: runs of neighbouring panels that are worked on at the same time, a sub block of each in
// turn. Lines of several pages come faster than those of one, and chains of dot products of several
// panels wait less for each other (a Xeon with AMX, `expert_set`: experts with 8 rows each take
// 0.89 of the time with Q4_K and 0.86 with Q6_K, with 1 row 0.91 and 0.89). Two streams give half
// of that, eight no more, and neighbouring panels nothing. Sums of many rows wait in the
// first-level cache for their panel's turn. Streams that share what is broadcast, group by group,
// are faster in the caches and slower from memory (Q8_0, Ice Lake: 8 rows take 1.28 times as long).
// While the second-level cache waits for memory, what it has comes late as well: lines are asked
// for a second time, into the first-level cache.
constexpr std::size_t kStreams = 4;
constexpr std::size_t kStreamPanels = 2;  // of a stream, at least
static_assert(kStreams * kStreamPanels == kLeastStreamPanels);
constexpr std::size_t kStreamAhead = 2560;

// Intel only: on Zen 4 a server gives 0.97 times the tokens with streams of up to 4 rows.
inline bool streams_suit(const Product& product, std::size_t rows_max) {
  return product.count <= rows_max && microarch() == Microarch::kIntel;
}

// All rows of a product times kStreams streams of `count` panels.
template <class S, class Format>
void stream_tiles(const Product& product, std::size_t panel, std::size_t count) {
  with_count<kTileRows<S>>(product.count, [&](auto rows) {
    for (std::size_t i = panel; i < panel + count; ++i) {
      const Fetch<FetchKind::kLinesTwice> fetch{product.weights->panel(i) + kStreamAhead};
      lanes_tile<S, Format, kStreams, 1, rows>(product, i, count, 0, 0, fetch);
    }
  });
}

// Takes the panels from `begin` on that go in streams.
template <class S, class Format>
void take_streams(const Product& product, const NarrowRows<S, Format>& narrow, std::size_t& begin,
                  std::size_t end) {
  if constexpr (S::kLanes == kPanelOutputs) {
    const std::size_t count = (end - begin) / kStreams;
    if (count < kStreamPanels || !streams_suit(product, kTileRows<S>)) return;
    if (narrow.all()) {
      stream_tiles<S, typename NarrowRows<S, Format>::Form>(product, begin, count);
    } else {
      stream_tiles<S, Format>(product, begin, count);
    }
    begin += kStreams * count;
  }
}

// kRows rows from `first` on times kPanels panels.
template <class S, class Format, std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
void block_tile(const Product& product, std::size_t panel, std::size_t first,
                const Prefetch& prefetch) {
  for (std::size_t r = 0; r < kRows && prefetch.outputs; ++r) {
    float* const y = product.y + (first + r) * product.y_stride + panel * kPanelOutputs;
    each<kPanels>([&](auto p) { __builtin_prefetch(y + p * kPanelOutputs, 1); });
  }
  lanes_tile<S, Format, 1, kPanels, kRows>(product, panel, 1, 0, first,
                                           Fetch<kFetch>{prefetch.weights, prefetch.bytes});
  for (std::size_t lane = S::kLanes; lane < kPanelOutputs; lane += S::kLanes) {
    lanes_tile<S, Format, 1, kPanels, kRows>(product, panel, 1, lane, first,
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

template <class S, class Format>
void tile(const Product& product, std::size_t panel, const Rows& rows, const Prefetch& prefetch) {
  with_count<kTileRows<S>>(rows.count, [&](auto count) {
    if (prefetch.kind == FetchKind::kParts) {
      block_tile<S, Format, 1, count, FetchKind::kParts>(product, panel, rows.first, prefetch);
    } else {
      block_tile<S, Format, 1, count, FetchKind::kLines>(product, panel, rows.first, prefetch);
    }
  });
}

// Takes the panels from `begin` on that go in sets.
template <class S, class Format>
void take_sets(const Product& product, const NarrowRows<S, Format>& narrow, std::size_t& begin,
               std::size_t end) {
  if constexpr (S::kLanes == kPanelOutputs) {
    using Form = typename NarrowRows<S, Format>::Form;
    const std::size_t bytes = panel_bytes<Format>(product);
    if (!sets_suit(product) || kSetPanels * bytes > kPrefetchPanelMax) return;
    for (; begin + kSetPanels <= end; begin += kSetPanels) {
      each_tile(product, kSetRows, [&](const Rows& rows) {
        Prefetch prefetch = prefetch_of<S, Format, kSetPanels>(product, begin, rows);
        if (narrow.of(rows)) {
          with_count<kSetRows, kLeastSetRows>(rows.count, [&](auto count) {
            block_tile<S, Form, kSetPanels, count, FetchKind::kParts>(product, begin, rows.first,
                                                                      prefetch);
          });
        } else {  // so seldom that they have no sets of their own
          for (std::size_t p = 0; p < kSetPanels; ++p, prefetch.weights += bytes) {
            tile<S, Format>(product, begin + p, rows, prefetch);
          }
        }
      });
    }
  }
}

template <class S, class Format>
void multiply_blocks(const Product& product, std::size_t begin, std::size_t end) {
  const NarrowRows<S, Format> narrow(product);
  take_streams<S, Format>(product, narrow, begin, end);
  take_sets<S, Format>(product, narrow, begin, end);
  for (std::size_t panel = begin; panel < end; ++panel) {
    each_tile(product, kTileRows<S>, [&](const Rows& rows) {
      const Prefetch prefetch = prefetch_of<S, Format, 1>(product, panel, rows);
      if (narrow.of(rows)) {
        tile<S, typename NarrowRows<S, Format>::Form>(product, panel, rows, prefetch);
      } else {
        tile<S, Format>(product, panel, rows, prefetch);
      }
    });
  }
}

// Panels of floats are read as fast as memory gives them: nothing is asked for.
template <class S, class Format>
void multiply_floats(const Product& product, std::size_t begin, std::size_t end) {
  for (std::size_t panel = begin; panel < end; ++panel) {
    each_tile(product, kTileRows<S>, [&](const Rows& rows) {
      with_count<kTileRows<S>>(rows.count, [&](auto count) {
        float_tile<S, Format, count>(product, panel, rows.first);
      });
    });
  }
}

template <class S>
void multiply_any(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  switch (product.weights->type()) {
    case gguf::BlockType::kF32:
      return multiply_floats<S, F32Format<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kF16:
      return multiply_floats<S, F16Format<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kBF16:
      return multiply_floats<S, Bf16Format<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ8_0:
      return multiply_blocks<S, Q8Format<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ4_0:
      return multiply_blocks<S, Q4Format<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ4_K:
      return multiply_blocks<S, Q4KFormat<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ5_K:
      return multiply_blocks<S, Q5KFormat<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kQ6_K:
      return multiply_blocks<S, Q6KFormat<S>>(product, panel_begin, panel_end);
    case gguf::BlockType::kMXFP4:
      return multiply_blocks<S, Mxfp4Format<S>>(product, panel_begin, panel_end);
  }
}

}  // namespace
}  // namespace conclave::kernels
