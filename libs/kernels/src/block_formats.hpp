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

/// The rows of a tile at one block of 32 inputs. Row r of a product has 8 times as many bytes of
/// quants as of scales, as many of offsets, twice as many of half offsets and half as many of sums:
/// one index for each row finds all of them, as x86 scales an index by itself. So 8 rows need 8
/// registers and not 24 or more.
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

  /// Before the next panel: the groups of more than 2 rows, which are more than registers hold, are
  /// broadcast again for it. The compiler would store them, only to load them.
  void leave_panel() {
    if constexpr (kRows > 2) asm("" : "+r"(quants));
  }

  void next_block() {
    quants += kRowBlock;
    scales += sizeof(float);
    offsets += sizeof(std::int32_t);
    half_offsets += 2 * sizeof(std::int32_t);
    block_sums += sizeof(std::int16_t);
    // Keeps the compiler from following 3 kRows addresses instead.
    for (std::size_t& i : index) asm("" : "+r"(i));
  }
};

/// How a tile asks for weights that are wanted later, into the second-level cache.
enum class FetchKind {
  kParts,       // so many bytes a super, or none, in a part before each block of 32 inputs
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

  /// For a panel that lies so many bytes behind the first one.
  [[nodiscard]] Fetch of_panel(std::size_t offset) const { return {at + offset, bytes}; }

  /// At group kGroup of block `block`, to which kBytes of `at` belong. Always inline: gcc takes a
  /// function that only prefetches for one without effects, and drops its calls where it looks for
  /// such before it inlines.
  template <std::size_t kBytes, std::size_t kGroup>
  [[gnu::always_inline]] void lines(std::size_t block) const {
    if constexpr (kKind != FetchKind::kParts) {
      constexpr std::size_t kLines = (kBytes + base::kCacheLine - 1) / base::kCacheLine;
      constexpr std::size_t kFirst = kGroup * kLines / layout::kGroups;
      const std::uint8_t* const from = at + block * kBytes;
      each<(kGroup + 1) * kLines / layout::kGroups - kFirst>([&](auto i) {
        const std::uint8_t* const line = from + (kFirst + i) * base::kCacheLine;
        __builtin_prefetch(line, 0, 2);
        if constexpr (kKind == FetchKind::kLinesTwice) __builtin_prefetch(line - kBehind, 0, 3);
      });
    }
  }
};

/// Adds the products of group `g` with each row. `step` counts the calls for one set of dots.
template <class Dots, std::size_t kRows, class U8>
void add_group(Dots (&dots)[kRows], std::size_t step, const TileRows<kRows>& x, std::size_t g,
               U8 weights) {
  const auto prepared = Dots::prepare(weights);
  each<kRows>([&](auto r) { dots[r].add(step, prepared, x.group(r, g)); });
}

/// acc = fma(dot, d * scale, acc) in each row.
template <class S, class Dots, std::size_t kRows>
void add_scaled(typename S::F32 (&acc)[kRows], const Dots (&dots)[kRows], typename S::F32 d,
                const TileRows<kRows>& x) {
  each<kRows>([&](auto r) {
    acc[r] = S::fma(S::to_f32(dots[r].sum()), S::mul(d, S::set1(x.scale(r))), acc[r]);
  });
}

/// The supers that some panels have at the same place.
struct Supers {
  const std::uint8_t* first;
  std::size_t stride;  // bytes between panels

  const std::uint8_t* operator[](std::size_t panel) const { return first + panel * stride; }
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

// Each format: `add` adds the products of `supers`, kLanes outputs of each panel from `lane` on,
// with the inputs of each row, moves x to what follows them and asks for what `fetch` says.
// kIsSlow: bits of a quant lie apart, which takes long to undo.

// Formats of 32 inputs: add_block(acc, super, lane, x, fetch) adds those of one panel.
template <class S, class Format>
struct BlockFormat {
  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add(typename S::F32 (&acc)[kPanels][kRows], const Supers& supers, std::size_t lane,
                  TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    each<kPanels>([&](auto panel) {
      Format::add_block(acc[panel], supers[panel], lane, x, fetch.of_panel(panel * supers.stride));
      if constexpr (kPanels > 1) x.leave_panel();
    });
    x.next_block();
  }
};

template <class S>
struct Q8Format : BlockFormat<S, Q8Format<S>> {
  using Layout = layout::Q8;
  static constexpr bool kIsSlow = false;

  template <std::size_t kRows, FetchKind kFetch>
  static void add_block(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t lane,
                        const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    fetch.part(0, 1);
    const auto d = S::load_f16(super + Layout::kScales + 2 * lane);
    typename S::BiasedDots dots[kRows];
    each<kRows>([&](auto r) { dots[r].start(x.offset(r)); });
    each<8>([&](auto g) {
      fetch.template lines<Layout::kBytes, g>(0);
      const auto* quants = super + Layout::kQuants + g * layout::kGroupBytes + 4 * lane;
      add_group(dots, g, x, g, S::load_u8(quants));
    });
    add_scaled<S>(acc, dots, d, x);
  }
};

template <class S>
struct Q4Format : BlockFormat<S, Q4Format<S>> {
  using Layout = layout::Q4;
  static constexpr bool kIsSlow = false;

  template <std::size_t kRows, FetchKind kFetch>
  static void add_block(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t lane,
                        const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    fetch.part(0, 1);
    const auto d = S::load_f16(super + Layout::kScales + 2 * lane);
    typename S::template Dots<15> dots[kRows];
    each<kRows>([&](auto r) {  // quants are value + 8
      dots[r].start(S::template divide<4>(S::load1_i32(x.offset(r))));
    });
    each<4>([&](auto g) {
      const auto pair = S::load_u8(super + Layout::kQuants + g * layout::kGroupBytes + 4 * lane);
      fetch.template lines<Layout::kBytes, 2 * g>(0);
      add_group(dots, 2 * g, x, g, low_nibbles<S>(pair));
      fetch.template lines<Layout::kBytes, 2 * g + 1>(0);
      add_group(dots, 2 * g + 1, x, g + 4, high_nibbles<S>(pair));
    });
    add_scaled<S>(acc, dots, d, x);
  }
};

// The FP4 (E2M1) values doubled, plus 16 so that they are unsigned: index is sign, exponent,
// mantissa.
constexpr std::uint8_t kFp4Doubled[16] = {16, 17, 18, 19, 20, 22, 24, 28,
                                          16, 15, 14, 13, 12, 10, 8,  4};

template <class S>
struct Mxfp4Format : BlockFormat<S, Mxfp4Format<S>> {
  using Layout = layout::Mxfp4;
  static constexpr bool kIsSlow = false;

  template <std::size_t kRows, FetchKind kFetch>
  static void add_block(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t lane,
                        const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    fetch.part(0, 1);
    const auto d = S::load_e8m0_half(super + Layout::kScales + lane);
    typename S::template Dots<28> dots[kRows];
    each<kRows>([&](auto r) { dots[r].start(S::template divide<3>(S::load1_i32(x.offset(r)))); });
    each<4>([&](auto g) {
      const auto pair = S::load_u8(super + Layout::kQuants + g * layout::kGroupBytes + 4 * lane);
      fetch.template lines<Layout::kBytes, 2 * g>(0);
      add_group(dots, 2 * g, x, g, S::lookup(low_nibbles<S>(pair), kFp4Doubled));
      fetch.template lines<Layout::kBytes, 2 * g + 1>(0);
      add_group(dots, 2 * g + 1, x, g + 4, S::lookup(high_nibbles<S>(pair), kFp4Doubled));
    });
    add_scaled<S>(acc, dots, d, x);
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

// Adds d * (the sum of scale * dot over the sub blocks) to acc in each row. Format::add_sub(sums,
// super, i, lane, x, fetch) adds scale * dot of sub block i.
template <class S, class Format, std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
void add_subs(typename S::F32 (&acc)[kPanels][kRows], const Supers& supers, std::size_t lane,
              TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
  using L = typename Format::Layout;
  typename S::I32 sums[kPanels][kRows];
  each<kPanels>([&](auto panel) { each<kRows>([&](auto r) { sums[panel][r] = S::set1_i32(0); }); });
  for (std::size_t i = 0; i < kSubBlocks<L>; ++i) {
    if (i > 0) x.next_block();
    fetch.part(i, kSubBlocks<L>);
    each<kPanels>([&](auto panel) {
      Format::add_sub(sums[panel], supers[panel], i, lane, x,
                      fetch.of_panel(panel * supers.stride));
      if constexpr (kPanels > 1) x.leave_panel();
    });
  }
  each<kPanels>([&](auto panel) {
    const auto d = S::load_f16(supers[panel] + L::kD + 2 * lane);
    each<kRows>([&](auto r) {  // all blocks of a row's 256 inputs have the same scale
      acc[panel][r] =
          S::fma(S::mul(S::to_f32(sums[panel][r]), d), S::set1(x.scale(r)), acc[panel][r]);
    });
  });
  x.next_block();
}

// sums += scale * dot in each row.
template <class S, class Dots, std::size_t kRows>
void add_sub_dots(typename S::I32 (&sums)[kRows], const Dots (&dots)[kRows],
                  typename S::I32 scales) {
  each<kRows>([&](auto r) { sums[r] = S::add_i32(sums[r], S::mul_i32(dots[r].sum(), scales)); });
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

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add(typename S::F32 (&acc)[kPanels][kRows], const Supers& supers, std::size_t lane,
                  TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    each<kPanels>([&](auto panel) {
      fetch_shared<Layout>(supers[panel]);
      subtract_mins<S, Layout>(acc[panel], supers[panel], lane, x);
    });
    add_subs<S, Format>(acc, supers, lane, x, fetch);
  }
};

// What is multiplied with the scale of a sub block: the same integers either way.
enum class SubDots {
  kWhole,   // the dot product of 32 inputs
  kHalves,  // those of 16 inputs, which fit into 16 bits; AVX-512 only
};

template <class S, SubDots kDots = SubDots::kWhole>
struct Q4KFormat : ScaleMinFormat<S, Q4KFormat<S, kDots>, layout::Q4K> {
  using Layout = layout::Q4K;
  static constexpr bool kIsSlow = false;
  static_assert(16 * 15 * 128 < 1 << 15);  // inputs of a half, quants, rows

  template <std::size_t kRows, FetchKind kFetch>
  static void add_sub(typename S::I32 (&sums)[kRows], const std::uint8_t* super, std::size_t i,
                      std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    constexpr bool kWhole = kDots == SubDots::kWhole;
    const std::uint8_t* const quants = super + Layout::kSub + i * Layout::kSubBytes + 4 * lane;
    using Dots = typename S::template Dots<15>;
    Dots low[kRows], high[kRows];
    Dots(&second)[kRows] = kWhole ? low : high;
    each<kRows>([&](auto r) {
      low[r].start(S::set1_i32(0));
      high[r].start(S::set1_i32(0));
    });
    each<4>([&](auto g) {
      const auto pair = S::load_u8(quants + g * layout::kGroupBytes);
      fetch.template lines<kSubShare<Layout>, 2 * g>(i);
      add_group(low, kWhole ? 2 * g : g, x, g, low_nibbles<S>(pair));
      fetch.template lines<kSubShare<Layout>, 2 * g + 1>(i);
      add_group(second, kWhole ? 2 * g + 1 : g, x, g + 4, high_nibbles<S>(pair));
    });
    const auto scales = S::load_u8_i32(super + Layout::kScales + i * layout::kLanes + lane);
    if constexpr (kWhole) {
      add_sub_dots<S>(sums, low, scales);
    } else {
      each<kRows>([&](auto r) { sums[r] = S::add_product16(sums[r], low[r].sum(), scales); });
      each<kRows>([&](auto r) { sums[r] = S::add_product16(sums[r], high[r].sum(), scales); });
    }
  }
};

template <class S>
struct Q5KFormat : ScaleMinFormat<S, Q5KFormat<S>, layout::Q5K> {
  using Layout = layout::Q5K;
  static constexpr bool kIsSlow = true;

  template <std::size_t kRows, FetchKind kFetch>
  static void add_sub(typename S::I32 (&sums)[kRows], const std::uint8_t* super, std::size_t i,
                      std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    const std::uint8_t* const quants = super + Layout::kSub + i * Layout::kSubBytes + 4 * lane;
    const auto high = S::load_u8(quants + Layout::kSubHigh);
    typename S::template Dots<31> dots[kRows];
    each<kRows>([&](auto r) { dots[r].start(S::set1_i32(0)); });
    each<4>([&](auto g) {  // bit g of a high byte is the fifth bit of group g
      const auto pair = S::load_u8(quants + g * layout::kGroupBytes);
      const auto low_bit = S::and_u8(S::template shift_left<4 - g>(high), 16);
      const auto high_bit = S::and_u8(S::template shift_right<g>(high), 16);
      fetch.template lines<kSubShare<Layout>, 2 * g>(i);
      add_group(dots, 2 * g, x, g, S::or_u8(low_nibbles<S>(pair), low_bit));
      fetch.template lines<kSubShare<Layout>, 2 * g + 1>(i);
      add_group(dots, 2 * g + 1, x, g + 4, S::or_u8(high_nibbles<S>(pair), high_bit));
    });
    add_sub_dots<S>(sums, dots,
                    S::load_u8_i32(super + Layout::kScales + i * layout::kLanes + lane));
  }
};

// Q6_K: value = d * scale * (quant - 32), one signed scale for 16 inputs.
template <class S>
struct Q6KFormat {
  using Layout = layout::Q6K;
  static constexpr bool kIsSlow = true;

  template <std::size_t kPanels, std::size_t kRows, FetchKind kFetch>
  static void add(typename S::F32 (&acc)[kPanels][kRows], const Supers& supers, std::size_t lane,
                  TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    each<kPanels>([&](auto panel) { fetch_shared<Layout>(supers[panel]); });
    add_subs<S, Q6KFormat>(acc, supers, lane, x, fetch);
  }

  template <std::size_t kRows, FetchKind kFetch>
  static void add_sub(typename S::I32 (&sums)[kRows], const std::uint8_t* super, std::size_t i,
                      std::size_t lane, const TileRows<kRows>& x, const Fetch<kFetch>& fetch) {
    const std::uint8_t* const quants = super + Layout::kSub + i * Layout::kSubBytes + 4 * lane;
    const std::uint8_t* const scales = super + Layout::kScales + 2 * i * layout::kLanes + lane;
    each<2>([&](auto half) {
      typename S::template Dots<63> dots[kRows];
      each<kRows>([&](auto r) { dots[r].start(S::load1_i32(x.half_offset(r, half))); });
      const auto high = S::load_u8(quants + Layout::kSubHigh + half * layout::kGroupBytes);
      each<2>([&](auto g) {
        const auto pair = S::load_u8(quants + (2 * half + g) * layout::kGroupBytes);
        fetch.template lines<kSubShare<Layout>, 4 * half + 2 * g>(i);
        add_group(dots, 2 * g, x, 4 * half + g, S::or_u8(low_nibbles<S>(pair), pair_bits<g>(high)));
        fetch.template lines<kSubShare<Layout>, 4 * half + 2 * g + 1>(i);
        add_group(dots, 2 * g + 1, x, 4 * half + g + 2,
                  S::or_u8(high_nibbles<S>(pair), pair_bits<g + 2>(high)));
      });
      add_sub_dots<S>(sums, dots, S::load_i8_i32(scales + half * layout::kLanes));
    });
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
