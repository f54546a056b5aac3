// What one sub block of packed weights adds to a tile of rows, for each block format. A format
// unpacks a group of weights once and adds it to the dot products of all rows of the tile, which
// are independent chains; constants of the weights are worked out once for the tile. What is left
// for each row is its dot instructions and two or three multiplications; integer additions,
// conversions and broadcasts from memory run beside them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

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
/// quants as of scales, and twice as many of offsets: one index for each row finds all three, as
/// x86 scales an index by itself. So 8 rows need 8 registers and not 24.
template <std::size_t kRows>
struct TileRows {
  const std::int8_t* quants;
  const std::uint8_t* scales;
  const std::uint8_t* offsets;
  std::size_t index[kRows];

  [[nodiscard]] const std::int8_t* group(std::size_t r, std::size_t g) const {
    return quants + 8 * index[r] + 4 * g;
  }
  [[nodiscard]] float scale(std::size_t r) const {
    float out;
    std::memcpy(&out, scales + index[r], sizeof out);
    return out;
  }
  /// Of all 32 inputs: see RowsView.
  [[nodiscard]] const std::uint8_t* offset(std::size_t r) const { return offsets + 2 * index[r]; }
  /// Of the last 16.
  [[nodiscard]] const std::uint8_t* later_offset(std::size_t r) const { return offset(r) + 4; }

  void next_block() {
    quants += kRowBlock;
    scales += sizeof(float);
    offsets += 2 * sizeof(std::int32_t);
    // Keeps the compiler from following 3 kRows addresses instead.
    for (std::size_t& i : index) asm("" : "+r"(i));
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

// A byte of a pair of groups holds group g in its low half and group g + 4 in its high half.
template <class S>
typename S::U8 low_nibbles(typename S::U8 pair) {
  return S::and_u8(pair, 15);
}
template <class S>
typename S::U8 high_nibbles(typename S::U8 pair) {
  return S::and_u8(S::template shift_right<4>(pair), 15);
}

// Each format: `add` adds the products of sub block `sub` of `super`, kLanes outputs from `lane`
// on, with the 32 inputs of each row. kIsSlow: bits of a quant lie apart, which takes long to undo.
template <class S>
struct Q8Format {
  using Layout = layout::Q8;
  static constexpr bool kIsSlow = false;

  template <std::size_t kRows>
  static void add(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t,
                  std::size_t lane, const TileRows<kRows>& x) {
    const auto d = S::load_f16(super + Layout::kScales + 2 * lane);
    typename S::BiasedDots dots[kRows];
    each<kRows>([&](auto r) { dots[r].start(x.offset(r)); });
    each<8>([&](auto g) {
      const auto* quants = super + Layout::kQuants + g * layout::kGroupBytes + 4 * lane;
      add_group(dots, g, x, g, S::load_u8(quants));
    });
    add_scaled<S>(acc, dots, d, x);
  }
};

template <class S>
struct Q4Format {
  using Layout = layout::Q4;
  static constexpr bool kIsSlow = false;

  template <std::size_t kRows>
  static void add(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t,
                  std::size_t lane, const TileRows<kRows>& x) {
    const auto d = S::load_f16(super + Layout::kScales + 2 * lane);
    typename S::template Dots<15> dots[kRows];
    each<kRows>([&](auto r) {  // quants are value + 8
      dots[r].start(S::template divide<4>(S::load1_i32(x.offset(r))));
    });
    each<4>([&](auto g) {
      const auto pair = S::load_u8(super + Layout::kQuants + g * layout::kGroupBytes + 4 * lane);
      add_group(dots, 2 * g, x, g, low_nibbles<S>(pair));
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
struct Mxfp4Format {
  using Layout = layout::Mxfp4;
  static constexpr bool kIsSlow = false;

  template <std::size_t kRows>
  static void add(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t,
                  std::size_t lane, const TileRows<kRows>& x) {
    const auto d = S::load_e8m0_half(super + Layout::kScales + lane);
    typename S::template Dots<28> dots[kRows];
    each<kRows>([&](auto r) { dots[r].start(S::template divide<3>(S::load1_i32(x.offset(r)))); });
    each<4>([&](auto g) {
      const auto pair = S::load_u8(super + Layout::kQuants + g * layout::kGroupBytes + 4 * lane);
      add_group(dots, 2 * g, x, g, S::lookup(low_nibbles<S>(pair), kFp4Doubled));
      add_group(dots, 2 * g + 1, x, g + 4, S::lookup(high_nibbles<S>(pair), kFp4Doubled));
    });
    add_scaled<S>(acc, dots, d, x);
  }
};

// Q4_K and Q5_K: value = d * scale * quant - dmin * min.
template <class S, class L>
struct ScaleMinFormat {
  using Layout = L;

  template <class Dots, std::size_t kRows>
  static void add_terms(typename S::F32 (&acc)[kRows], const Dots (&dots)[kRows],
                        const std::uint8_t* super, const std::uint8_t* sub, std::size_t lane,
                        const TileRows<kRows>& x) {
    const auto scale = S::mul(S::load_f16(super + L::kD + 2 * lane),
                              S::to_f32(S::load_u8_i32(sub + L::kSubScales + lane)));
    // Offsets are -128 sums; dividing by a power of two changes no bit.
    const auto dmin = S::mul(S::load_f16(super + L::kMin + 2 * lane), S::set1(1.0f / 128));
    const auto min = S::mul(dmin, S::to_f32(S::load_u8_i32(sub + L::kSubMins + lane)));
    each<kRows>([&](auto r) {
      const auto offset = S::to_f32(S::load1_i32(x.offset(r)));
      const auto term = S::fma(offset, min, S::mul(S::to_f32(dots[r].sum()), scale));
      acc[r] = S::fma(term, S::set1(x.scale(r)), acc[r]);
    });
  }
};

template <class S>
struct Q4KFormat : ScaleMinFormat<S, layout::Q4K> {
  using L = layout::Q4K;
  static constexpr bool kIsSlow = false;

  template <std::size_t kRows>
  static void add(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t sub_index,
                  std::size_t lane, const TileRows<kRows>& x) {
    const std::uint8_t* const sub = super + L::kSub + sub_index * L::kSubBytes;
    typename S::template Dots<15> dots[kRows];
    each<kRows>([&](auto r) { dots[r].start(S::set1_i32(0)); });
    each<4>([&](auto g) {
      const auto pair = S::load_u8(sub + L::kSubQuants + g * layout::kGroupBytes + 4 * lane);
      add_group(dots, 2 * g, x, g, low_nibbles<S>(pair));
      add_group(dots, 2 * g + 1, x, g + 4, high_nibbles<S>(pair));
    });
    Q4KFormat::add_terms(acc, dots, super, sub, lane, x);
  }
};

template <class S>
struct Q5KFormat : ScaleMinFormat<S, layout::Q5K> {
  using L = layout::Q5K;
  static constexpr bool kIsSlow = true;

  template <std::size_t kRows>
  static void add(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t sub_index,
                  std::size_t lane, const TileRows<kRows>& x) {
    const std::uint8_t* const sub = super + L::kSub + sub_index * L::kSubBytes;
    const auto high = S::load_u8(sub + L::kSubHigh + 4 * lane);
    typename S::template Dots<31> dots[kRows];
    each<kRows>([&](auto r) { dots[r].start(S::set1_i32(0)); });
    each<4>([&](auto g) {  // bit g of a high byte is the fifth bit of group g
      const auto pair = S::load_u8(sub + L::kSubQuants + g * layout::kGroupBytes + 4 * lane);
      const auto low_bit = S::and_u8(S::template shift_left<4 - g>(high), 16);
      const auto high_bit = S::and_u8(S::template shift_right<g>(high), 16);
      add_group(dots, 2 * g, x, g, S::or_u8(low_nibbles<S>(pair), low_bit));
      add_group(dots, 2 * g + 1, x, g + 4, S::or_u8(high_nibbles<S>(pair), high_bit));
    });
    Q5KFormat::add_terms(acc, dots, super, sub, lane, x);
  }
};

// Q6_K: value = d * scale * (quant - 32), one signed scale for 16 inputs.
template <class S>
struct Q6KFormat {
  using Layout = layout::Q6K;
  static constexpr bool kIsSlow = true;

  template <std::size_t kRows>
  static void add(typename S::F32 (&acc)[kRows], const std::uint8_t* super, std::size_t sub_index,
                  std::size_t lane, const TileRows<kRows>& x) {
    const std::uint8_t* const sub = super + Layout::kSub + sub_index * Layout::kSubBytes;
    typename S::template Dots<63> first[kRows];
    typename S::template Dots<63> later[kRows];
    each<kRows>([&](auto r) {
      const auto all = S::load1_i32(x.offset(r));
      const auto half = S::load1_i32(x.later_offset(r));
      first[r].start(S::template divide<2>(S::sub_i32(all, half)));
      later[r].start(S::template divide<2>(half));
    });
    const auto first_high = S::load_u8(sub + Layout::kSubHigh + 4 * lane);
    const auto later_high = S::load_u8(sub + Layout::kSubHigh + layout::kGroupBytes + 4 * lane);
    each<4>([&](auto g) {
      const auto pair = S::load_u8(sub + Layout::kSubQuants + g * layout::kGroupBytes + 4 * lane);
      add_group(first, g, x, g, S::or_u8(low_nibbles<S>(pair), pair_bits<g>(first_high)));
      add_group(later, g, x, g + 4, S::or_u8(high_nibbles<S>(pair), pair_bits<g>(later_high)));
    });
    const auto d = S::load_f16(super + Layout::kD + 2 * lane);
    const std::uint8_t* const scales = sub + Layout::kSubScales + lane;
    const auto first_scale = S::mul(d, S::to_f32(S::load_i8_i32(scales)));
    const auto later_scale = S::mul(d, S::to_f32(S::load_i8_i32(scales + layout::kLanes)));
    each<kRows>([&](auto r) {
      const auto term = S::fma(S::to_f32(later[r].sum()), later_scale,
                               S::mul(S::to_f32(first[r].sum()), first_scale));
      acc[r] = S::fma(term, S::set1(x.scale(r)), acc[r]);
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
