// What one super of packed weights (32 inputs, 256 of a K-quant), or those of several panels, adds
// to a tile of rows, for each block format. A format unpacks a group of weights once and adds it to
// the dot products of all rows of the tile, which are independent chains; constants of the weights
// are worked out once for the tile. What is left for each row is its dot instructions and one or
// two multiplications for each dot product; integer additions, conversions and broadcasts from
// memory run beside them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "conclave/base/aligned.hpp"
#include "conclave/kernels/rows.hpp"
#include "layout.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

/// body(std::integral_constant<std::size_t, i>) for i in [0, kCount), unrolled: arrays that are
/// indexed with it stay in registers.
template <std::size_t kCount, class Body>
void each(const Body& body) {
  const auto unrolled = [&]<std::size_t... i>(std::index_sequence<i...>) {
    (body(std::integral_constant<std::size_t, i>{}), ...);
  };
  unrolled(std::make_index_sequence<kCount>{});
}

/// The rows of a tile from one block of 32 inputs on. Row r of a product has 8 times as many bytes
/// of quants as of scales, as many of offsets, twice as many of half offsets and half as many of
/// sums: one index for each row finds all of them, as x86 scales an index by itself. So 8 rows need
/// 8 registers and not 24 or more.
template <std::size_t kRows>
struct TileRows {
  const std::int8_t* quants;
  const std::uint8_t* scales;
  const std::uint8_t* offsets;
  const std::uint8_t* half_offsets;
  const std::uint8_t* block_sums;
  std::size_t index[kRows];

  [[nodiscard]] const std::int8_t* group(std::size_t r, std::size_t g) const {
    return quants + 8 * index[r] + 4 * g;
  }
  [[nodiscard]] float scale(std::size_t r) const {
    float out;
    std::memcpy(&out, scales + index[r], sizeof out);
    return out;
  }
  /// -128 times the sum of all 32 inputs.
  [[nodiscard]] const std::uint8_t* offset(std::size_t r) const { return offsets + index[r]; }
  /// -32 times the sum of 16 of them.
  [[nodiscard]] const std::uint8_t* half_offset(std::size_t r, std::size_t half) const {
    return half_offsets + 2 * index[r] + 4 * half;
  }
  /// The sums of this and of later blocks, 16 bits each.
  [[nodiscard]] const std::uint8_t* sums(std::size_t r) const { return block_sums + index[r] / 2; }

  /// Before the next set of panels: the groups of more than 2 rows, which are more than registers
  /// hold, are broadcast again for it. The compiler would store them, only to load them.
  void leave_set() {
    if constexpr (kRows > 2) asm("" : "+r"(quants));
  }

  template <std::size_t kBlocks = 1>
  void next_blocks() {
    quants += kBlocks * kRowBlock;
    scales += kBlocks * sizeof(float);
    offsets += kBlocks * sizeof(std::int32_t);
    half_offsets += kBlocks * 2 * sizeof(std::int32_t);
    block_sums += kBlocks * sizeof(std::int16_t);
    // Keeps the compiler from following 3 kRows addresses instead.
    for (std::size_t& i : index) asm("" : "+r"(i));
  }
};

/// How a tile asks for weights that are wanted later, into the second-level cache.
enum class FetchKind {
  kParts,       // so many bytes a super, or none, in parts before its sub blocks
  kLines,       // all of a super, a line at a time among the products
  kLinesTwice,  // and those kBehind bytes before once more, into the first-level cache
};
constexpr std::size_t kBehind = 1792;

/// What is asked for while a super (or block) is in work. Lines one at a time: four at once take a
/// core's free buffers from the loads behind them, and a loop that computes as long as it reads
/// takes 1.2 times as long (a Xeon with AMX).
template <FetchKind kKind>
struct Fetch {
  const std::uint8_t* at = nullptr;
  std::size_t bytes = 0;  // kParts

  /// Before block `i` of `parts`.
  void part(std::size_t i, std::size_t parts) const {
    if constexpr (kKind == FetchKind::kParts) {
      const std::size_t share = bytes / parts;
      for (std::size_t from = i * share; from < (i + 1) * share; from += base::kCacheLine) {
        __builtin_prefetch(at + from, 0, 2);
      }
    }
  }

  /// The same of kPanels panels, so many bytes apart.
  template <std::size_t kPanels>
  void parts(std::size_t i, std::size_t parts, std::size_t stride) const {
    for (std::size_t p = 0; p < kPanels; ++p) behind(p * stride).part(i, parts);
  }

  /// For panels that lie so many bytes behind the first one.
  [[nodiscard]] Fetch behind(std::size_t offset) const { return {at + offset, bytes}; }

  /// At group kGroup of block `block`, to which kBytes of `at` belong, of kPanels panels. Always
  /// inline: gcc takes a function that only prefetches for one without effects, and drops its calls
  /// where it looks for such before it inlines.
  template <std::size_t kPanels, std::size_t kBytes, std::size_t kGroup>
  [[gnu::always_inline]] void lines(std::size_t block, std::size_t stride) const {
    if constexpr (kKind != FetchKind::kParts) {
      constexpr std::size_t kLines = (kBytes + base::kCacheLine - 1) / base::kCacheLine;
      constexpr std::size_t kFirst = kGroup * kLines / layout::kGroups;
      each<kPanels>([&](auto p) {
        const std::uint8_t* const from = at + p * stride + block * kBytes;
        each<(kGroup + 1) * kLines / layout::kGroups - kFirst>([&](auto i) {
          const std::uint8_t* const line = from + (kFirst + i) * base::kCacheLine;
          __builtin_prefetch(line, 0, 2);
          if constexpr (kKind == FetchKind::kLinesTwice) __builtin_prefetch(line - kBehind, 0, 3);
        });
      });
    }
  }
};

/// Dots of row `row` of a set of panels begin with `offset`.
template <class Dots, std::size_t kPanels, std::size_t kRows, class Offset>
void start_dots(Dots (&dots)[kPanels][kRows], std::size_t row, Offset offset) {
  for (auto& panel : dots) panel[row].start(offset);
}

/// Adds the products of a group of weights, weights(p) of panel p, with group `g` of each row.
/// `step` counts the calls for one set of dots.
template <class Dots, std::size_t kPanels, std::size_t kRows, class Weights>
void add_group(Dots (&dots)[kPanels][kRows], std::size_t step, const TileRows<kRows>& x,
               std::size_t g, const Weights& weights) {
  using Prepared = decltype(Dots::prepare(weights(std::integral_constant<std::size_t, 0>{})));
  Prepared prepared[kPanels];
  each<kPanels>([&](auto p) { prepared[p] = Dots::prepare(weights(p)); });
  each<kRows>([&](auto r) {
    each<kPanels>([&](auto p) { dots[p][r].add(step, prepared[p], x.group(r, g)); });
  });
}

/// acc = fma(dot, d * scale, acc) in each row; d(p) are the scales of panel p.
template <class S, class Dots, std::size_t kPanels, std::size_t kRows, class Scales>
void add_scaled(typename S::F32 (&acc)[kPanels][kRows], const Dots (&dots)[kPanels][kRows],
                const TileRows<kRows>& x, const Scales& d) {
  each<kPanels>([&](auto p) {
    const auto own = d(p);
    each<kRows>([&](auto r) {
      const auto scale = S::mul(own, S::set1(x.scale(r)));
      acc[p][r] = S::fma(S::to_f32(dots[p][r].sum()), scale, acc[p][r]);
    });
  });
}

/// The supers that some panels have at the same place.
struct Supers {
  const std::uint8_t* first;
  std::size_t stride;  // bytes between panels

  const std::uint8_t* operator[](std::size_t panel) const { return first + panel * stride; }
  [[nodiscard]] Supers behind(std::size_t offset) const { return {first + offset, stride}; }
};

// A byte of a pair of groups holds group g in its low half and group g + 4 in its high half.
template <class S>
typename S::U8 low_nibbles(typename S::U8 pair) {
  return S::and_u8(pair, 15);
}
template <class S>
typename S::U8 high_nibbles(typename S::U8 pair) {
  return S::and_u8(S::template shift_right<4>(pair), 15);
}

// What is between a line of weights and its dot products.
enum class Unpacking {
  kNone,     // bytes are quants
  kNibbles,  // a mask, a shift or a lookup for each group
  kParts,    // bits of a quant lie apart, which takes long to undo
};

// Each format: `add` adds the products of `supers`, kLanes outputs of each panel from `lane` on,
// with the inputs of each row, moves x to what follows them and asks for what `fetch` says. Panels
// come in sets; those of a set share what is read of a row.

// Formats of 32 inputs: add_block(acc, supers, lane, x, fetch) adds those of one set.
template <class S, class Format>
struct BlockFormat {
  template <std::size_t kSets, std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add(typename S::F32 (&acc)[kSets][kPanels][kRows], const Supers& supers,
                  std::size_t lane, TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    each<kSets>([&](auto set) {
      const std::size_t offset = set * kPanels * supers.stride;
      fetch.behind(offset).template parts<kPanels>(0, 1, supers.stride);
      Format::add_block(acc[set], supers.behind(offset), lane, x, fetch.behind(offset));
      if constexpr (kSets > 1) x.leave_set();
    });
    x.next_blocks();
  }
};

template <class S>
struct Q8Format : BlockFormat<S, Q8Format<S>> {
  using Layout = layout::Q8;
  static constexpr Unpacking kUnpacking = Unpacking::kNone;

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add_block(typename S::F32 (&acc)[kPanels][kRows], const Supers& supers,
                        std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    typename S::BiasedDots dots[kPanels][kRows];
    each<kRows>([&](auto r) { start_dots(dots, r, x.offset(r)); });
    each<8>([&](auto g) {
      fetch.template lines<kPanels, Layout::kBytes, g>(0, supers.stride);
      const std::size_t at = Layout::kQuants + g * layout::kGroupBytes + 4 * lane;
      add_group(dots, g, x, g, [&](auto p) { return S::load_u8(supers[p] + at); });
    });
    add_scaled<S>(acc, dots, x,
                  [&](auto p) { return S::load_f16(supers[p] + Layout::kScales + 2 * lane); });
  }
};

// Adds the products of the nibbles at `at` of each super, 32 inputs, with each row's groups from
// `group` on. weights(nibbles) is what to multiply with. kBytes of what is fetched belong to them,
// as block `block`.
template <class S, std::size_t kBytes, class Dots, std::size_t kPanels, std::size_t kRows,
          FetchKind kFetch, class Weights>
void add_nibbles(Dots (&dots)[kPanels][kRows], const Supers& supers, std::size_t at,
                 const TileRows<kRows>& x, std::size_t group, const Fetch<kFetch>& fetch,
                 std::size_t block, const Weights& weights) {
  each<4>([&](auto g) {
    typename S::U8 pairs[kPanels];
    each<kPanels>([&](auto p) { pairs[p] = S::load_u8(supers[p] + at + g * layout::kGroupBytes); });
    fetch.template lines<kPanels, kBytes, 2 * g>(block, supers.stride);
    add_group(dots, 2 * g, x, group + g, [&](auto p) { return weights(low_nibbles<S>(pairs[p])); });
    fetch.template lines<kPanels, kBytes, 2 * g + 1>(block, supers.stride);
    add_group(dots, 2 * g + 1, x, group + g + 4,
              [&](auto p) { return weights(high_nibbles<S>(pairs[p])); });
  });
}

template <class S>
struct Q4Format : BlockFormat<S, Q4Format<S>> {
  using Layout = layout::Q4;
  static constexpr Unpacking kUnpacking = Unpacking::kNibbles;

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add_block(typename S::F32 (&acc)[kPanels][kRows], const Supers& supers,
                        std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    typename S::template Dots<15> dots[kPanels][kRows];
    each<kRows>([&](auto r) {  // quants are value + 8
      start_dots(dots, r, S::template divide<4>(S::load1_i32(x.offset(r))));
    });
    add_nibbles<S, Layout::kBytes>(dots, supers, Layout::kQuants + 4 * lane, x, 0, fetch, 0,
                                   [](auto nibbles) { return nibbles; });
    add_scaled<S>(acc, dots, x,
                  [&](auto p) { return S::load_f16(supers[p] + Layout::kScales + 2 * lane); });
  }
};

// The FP4 (E2M1) values doubled, plus 16 so that they are unsigned: index is sign, exponent,
// mantissa.
constexpr std::uint8_t kFp4Doubled[16] = {16, 17, 18, 19, 20, 22, 24, 28,
                                          16, 15, 14, 13, 12, 10, 8,  4};

template <class S>
struct Mxfp4Format : BlockFormat<S, Mxfp4Format<S>> {
  using Layout = layout::Mxfp4;
  static constexpr Unpacking kUnpacking = Unpacking::kNibbles;

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add_block(typename S::F32 (&acc)[kPanels][kRows], const Supers& supers,
                        std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    typename S::template Dots<28> dots[kPanels][kRows];
    each<kRows>(
        [&](auto r) { start_dots(dots, r, S::template divide<3>(S::load1_i32(x.offset(r)))); });
    add_nibbles<S, Layout::kBytes>(dots, supers, Layout::kQuants + 4 * lane, x, 0, fetch, 0,
                                   [](auto nibbles) { return S::lookup(nibbles, kFp4Doubled); });
    add_scaled<S>(acc, dots, x,
                  [&](auto p) { return S::load_e8m0_half(supers[p] + Layout::kScales + lane); });
  }
};

// Asks for what the sub blocks of a K-quant share, which lies before them: at once, so that lines
// are wanted in their order, which the processor foresees. Always inline: see Fetch::lines.
template <class L>
[[gnu::always_inline]] inline void fetch_shared(const std::uint8_t* super) {
  each<L::kSub / base::kCacheLine>(
      [&](auto line) { __builtin_prefetch(super + line * base::kCacheLine); });
}

template <class L>
constexpr std::size_t kSubBlocks = L::kInputs / kRowBlock;
template <class L>
constexpr std::size_t kSubShare = L::kBytes / kSubBlocks<L>;  // of a super's bytes

// Adds d * (the sum of scale * dot over the sub blocks) to acc in each row. Format::add_subs(sums,
// supers, i, lane, x, fetch) adds scale * dot of Format::kSubs sub blocks from i on, of one set.
template <class S, class Format, std::size_t kSets, std::size_t kPanels, std::size_t kRows,
          FetchKind kFetch>
void add_scaled_subs(typename S::F32 (&acc)[kSets][kPanels][kRows], const Supers& supers,
                     std::size_t lane, TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
  using L = typename Format::Layout;
  constexpr std::size_t kSubs = Format::kSubs;
  typename S::I32 sums[kSets][kPanels][kRows];
  for (auto& set : sums) {
    each<kPanels>([&](auto p) { each<kRows>([&](auto r) { set[p][r] = S::set1_i32(0); }); });
  }
  for (std::size_t i = 0; i < kSubBlocks<L>; i += kSubs) {
    if (i > 0) x.template next_blocks<kSubs>();
    each<kSets>([&](auto set) {
      const std::size_t offset = set * kPanels * supers.stride;
      fetch.behind(offset).template parts<kPanels>(i / kSubs, kSubBlocks<L> / kSubs, supers.stride);
      Format::add_subs(sums[set], supers.behind(offset), i, lane, x, fetch.behind(offset));
      if constexpr (kSets > 1) x.leave_set();
    });
  }
  for (std::size_t set = 0; set < kSets; ++set) {
    each<kPanels>([&](auto p) {
      const auto d = S::load_f16(supers[set * kPanels + p] + L::kD + 2 * lane);
      each<kRows>([&](auto r) {  // all blocks of a row's 256 inputs have the same scale
        auto& sum = acc[set][p][r];
        sum = S::fma(S::mul(S::to_f32(sums[set][p][r]), d), S::set1(x.scale(r)), sum);
      });
    });
  }
  x.template next_blocks<kSubs>();
}

// What is multiplied with scales of sub blocks: the same integers either way.
enum class SubDots {
  kWhole,  // a dot product
  kPairs,  // two of them in one register, 16 bits each: of narrow rows (rows.hpp); AVX-512 only
};

// sums += scale * dot; scales(p) are those of a panel.
template <class S, class Dots, std::size_t kPanels, std::size_t kRows, class Scales>
void add_sub_dots(typename S::I32 (&sums)[kPanels][kRows], const Dots (&dots)[kPanels][kRows],
                  const Scales& scales) {
  each<kPanels>([&](auto p) {
    const auto own = scales(p);
    each<kRows>(
        [&](auto r) { sums[p][r] = S::add_i32(sums[p][r], S::mul_i32(dots[p][r].sum(), own)); });
  });
}

// The same of two dots each; scales(p) has the first one's in the low half of a lane.
template <class S, class Dots, std::size_t kPanels, std::size_t kRows, class Scales>
void add_sub_pairs(typename S::I32 (&sums)[kPanels][kRows], const Dots (&dots)[2][kPanels][kRows],
                   const Scales& scales) {
  each<kPanels>([&](auto p) {
    const auto own = scales(p);
    each<kRows>([&](auto r) {
      const auto pair = S::pair16(dots[0][p][r].sum(), dots[1][p][r].sum());
      sums[p][r] = S::add_pair_products(sums[p][r], pair, own);
    });
  });
}

// Takes the mins of Q4_K and Q5_K from acc: dmin times the sum of min * (sum of inputs).
template <class S, class L, std::size_t kRows>
void subtract_mins(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t lane,
                   const TileRows<kRows>& x) {
  typename S::I32 mins[kRows];
  each<kRows>([&](auto r) { mins[r] = S::set1_i32(0); });
  each<4>([&](auto pair) {
    const std::uint8_t* const first = super + L::kMins + 2 * pair * layout::kLanes + lane;
    const auto weights = S::load_u8_pairs(first, first + layout::kLanes);
    each<kRows>([&](auto r) { mins[r] = S::add_dot2(mins[r], weights, x.sums(r) + 4 * pair); });
  });
  const auto dmin = S::load_f16(super + L::kMin + 2 * lane);
  each<kRows>([&](auto r) {
    acc[r] = S::fnma(S::mul(S::to_f32(mins[r]), dmin), S::set1(x.scale(r)), acc[r]);
  });
}

// Q4_K and Q5_K: value = d * scale * quant - dmin * min.
template <class S, class Format, class L>
struct ScaleMinFormat {
  using Layout = L;

  template <std::size_t kSets, std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add(typename S::F32 (&acc)[kSets][kPanels][kRows], const Supers& supers,
                  std::size_t lane, TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    for (std::size_t set = 0; set < kSets; ++set) {
      each<kPanels>([&](auto p) {
        const std::uint8_t* const super = supers[set * kPanels + p];
        fetch_shared<Layout>(super);
        subtract_mins<S, Layout>(acc[set][p], super, lane, x);
      });
    }
    add_scaled_subs<S, Format>(acc, supers, lane, x, fetch);
  }
};

template <class S, SubDots kDots = SubDots::kWhole>
struct Q4KFormat : ScaleMinFormat<S, Q4KFormat<S, kDots>, layout::Q4K> {
  using Layout = layout::Q4K;
  using Narrow = Q4KFormat<S, SubDots::kPairs>;
  static constexpr Unpacking kUnpacking = Unpacking::kNibbles;
  static constexpr std::size_t kSubs = kDots == SubDots::kPairs ? 2 : 1;
  static constexpr int kWide = kWideBlock;  // rows that Narrow is not for
  static_assert(kNarrowBlock * 15 < 1 << 15);

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add_subs(typename S::I32 (&sums)[kPanels][kRows], const Supers& supers, std::size_t i,
                       std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    typename S::template Dots<15> dots[kSubs][kPanels][kRows];
    each<kSubs>([&](auto sub) {
      each<kRows>([&](auto r) { start_dots(dots[sub], r, S::set1_i32(0)); });
      const std::size_t at = Layout::kSub + (i + sub) * Layout::kSubBytes + 4 * lane;
      add_nibbles<S, kSubShare<Layout>>(dots[sub], supers, at, x, sub * layout::kGroups, fetch,
                                        i + sub, [](auto nibbles) { return nibbles; });
    });
    const std::size_t scales = Layout::kScales + i * layout::kLanes + lane;
    if constexpr (kDots == SubDots::kPairs) {
      add_sub_pairs<S>(sums, dots, [&](auto p) {
        return S::load_u8_pairs(supers[p] + scales, supers[p] + scales + layout::kLanes);
      });
    } else {
      add_sub_dots<S>(sums, dots[0], [&](auto p) { return S::load_u8_i32(supers[p] + scales); });
    }
  }
};

template <class S>
struct Q5KFormat : ScaleMinFormat<S, Q5KFormat<S>, layout::Q5K> {
  using Layout = layout::Q5K;
  static constexpr Unpacking kUnpacking = Unpacking::kParts;
  static constexpr std::size_t kSubs = 1;

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add_subs(typename S::I32 (&sums)[kPanels][kRows], const Supers& supers, std::size_t i,
                       std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    const std::size_t at = Layout::kSub + i * Layout::kSubBytes + 4 * lane;
    typename S::U8 highs[kPanels];
    each<kPanels>([&](auto p) { highs[p] = S::load_u8(supers[p] + at + Layout::kSubHigh); });
    typename S::template Dots<31> dots[kPanels][kRows];
    each<kRows>([&](auto r) { start_dots(dots, r, S::set1_i32(0)); });
    each<4>([&](auto g) {  // bit g of a high byte is the fifth bit of group g
      typename S::U8 pairs[kPanels];
      each<kPanels>(
          [&](auto p) { pairs[p] = S::load_u8(supers[p] + at + g * layout::kGroupBytes); });
      fetch.template lines<kPanels, kSubShare<Layout>, 2 * g>(i, supers.stride);
      add_group(dots, 2 * g, x, g, [&](auto p) {
        const auto bit = S::and_u8(S::template shift_left<4 - g>(highs[p]), 16);
        return S::or_u8(low_nibbles<S>(pairs[p]), bit);
      });
      fetch.template lines<kPanels, kSubShare<Layout>, 2 * g + 1>(i, supers.stride);
      add_group(dots, 2 * g + 1, x, g + 4, [&](auto p) {
        const auto bit = S::and_u8(S::template shift_right<g>(highs[p]), 16);
        return S::or_u8(high_nibbles<S>(pairs[p]), bit);
      });
    });
    const std::size_t scales = Layout::kScales + i * layout::kLanes + lane;
    add_sub_dots<S>(sums, dots, [&](auto p) { return S::load_u8_i32(supers[p] + scales); });
  }
};

// Q6_K: value = d * scale * (quant - 32), one signed scale for 16 inputs.
template <class S, SubDots kDots = SubDots::kWhole>
struct Q6KFormat {
  using Layout = layout::Q6K;
  using Narrow = Q6KFormat<S, SubDots::kPairs>;
  static constexpr Unpacking kUnpacking = Unpacking::kParts;
  static constexpr std::size_t kSubs = 1;
  static constexpr int kWide = kWideHalf;  // rows that Narrow is not for
  static_assert(kNarrowHalf * 32 < 1 << 15);

  template <std::size_t kSets, std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add(typename S::F32 (&acc)[kSets][kPanels][kRows], const Supers& supers,
                  std::size_t lane, TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    each<kSets * kPanels>([&](auto panel) { fetch_shared<Layout>(supers[panel]); });
    add_scaled_subs<S, Q6KFormat>(acc, supers, lane, x, fetch);
  }

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add_subs(typename S::I32 (&sums)[kPanels][kRows], const Supers& supers, std::size_t i,
                       std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    const std::size_t at = Layout::kSub + i * Layout::kSubBytes + 4 * lane;
    const std::size_t scales = Layout::kScales + 2 * i * layout::kLanes + lane;
    typename S::template Dots<63> dots[2][kPanels][kRows];
    each<2>([&](auto half) {
      each<kRows>([&](auto r) { start_dots(dots[half], r, S::load1_i32(x.half_offset(r, half))); });
      typename S::U8 highs[kPanels];
      each<kPanels>([&](auto p) {
        highs[p] = S::load_u8(supers[p] + at + Layout::kSubHigh + half * layout::kGroupBytes);
      });
      each<2>([&](auto g) {
        typename S::U8 pairs[kPanels];
        each<kPanels>([&](auto p) {
          pairs[p] = S::load_u8(supers[p] + at + (2 * half + g) * layout::kGroupBytes);
        });
        fetch.template lines<kPanels, kSubShare<Layout>, 4 * half + 2 * g>(i, supers.stride);
        add_group(dots[half], 2 * g, x, 4 * half + g, [&](auto p) {
          return S::or_u8(low_nibbles<S>(pairs[p]), pair_bits<g>(highs[p]));
        });
        fetch.template lines<kPanels, kSubShare<Layout>, 4 * half + 2 * g + 1>(i, supers.stride);
        add_group(dots[half], 2 * g + 1, x, 4 * half + g + 2, [&](auto p) {
          return S::or_u8(high_nibbles<S>(pairs[p]), pair_bits<g + 2>(highs[p]));
        });
      });
      if constexpr (kDots == SubDots::kWhole) {
        add_sub_dots<S>(sums, dots[half], [&](auto p) {
          return S::load_i8_i32(supers[p] + scales + half * layout::kLanes);
        });
      }
    });
    if constexpr (kDots == SubDots::kPairs) {
      add_sub_pairs<S>(sums, dots, [&](auto p) {
        return S::load_i8_pairs(supers[p] + scales, supers[p] + scales + layout::kLanes);
      });
    }
  }

 private:
  // Bits 2 kGroup and 2 kGroup + 1 of each byte, as bits 4 and 5.
  template <std::size_t kGroup>
  static typename S::U8 pair_bits(typename S::U8 high) {
    if constexpr (kGroup <= 2) {
      return S::and_u8(S::template shift_left<4 - 2 * int{kGroup}>(high), 48);
    } else {
      return S::and_u8(S::template shift_right<2>(high), 48);
    }
  }
};

}  // namespace
}  // namespace conclave::kernels
