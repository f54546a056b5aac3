// The matrix product kernels, written once over a Simd backend and compiled for each instruction
// set. A tile is one panel (16 outputs) times up to kTileRows activation rows: the weights of a
// sub block are unpacked into registers once and used for every row of the tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "conclave/kernels/kernel_table.hpp"
#include "layout.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

// The FP4 (E2M1) values doubled, plus 12 so that they are unsigned: index is sign, exponent,
// mantissa.
constexpr std::uint8_t kFp4Doubled[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                          12, 11, 10, 9,  8,  6,  4,  0};

template <class S>
void load_nibbles(const std::uint8_t* quants, std::size_t lane, typename S::U8 (&w)[8]) {
  for (std::size_t g = 0; g < 4; ++g) {
    const auto pair = S::load_u8(quants + g * layout::kGroupBytes + 4 * lane);
    w[g] = S::and_u8(pair, 15);
    w[g + 4] = S::and_u8(S::template shift_right<4>(pair), 15);
  }
}

template <class S>
typename S::I32 dot32(typename S::I32 acc, const typename S::U8 (&w)[8], const std::int8_t* x) {
  for (std::size_t g = 0; g < 8; ++g) acc = S::dot4(acc, w[g], x + 4 * g);
  return acc;
}

// Each format: `load` unpacks one sub block of kLanes outputs from `lane` on, `add` adds its
// product with 32 quantised inputs (scale dx, sums of the two halves) to the accumulators.
template <class S>
struct Q8Format {
  using Layout = layout::Q8;
  typename S::U8 w[8];
  typename S::F32 d;

  void load(const std::uint8_t* super, std::size_t, std::size_t lane) {
    d = S::load_f16(super + Layout::kScales + 2 * lane);
    for (std::size_t g = 0; g < 8; ++g) {
      w[g] = S::load_u8(super + Layout::kQuants + g * layout::kGroupBytes + 4 * lane);
    }
  }
  typename S::F32 add(typename S::F32 acc, const std::int8_t* x, float dx,
                      const std::int32_t* sums) const {
    auto dot = S::biased_start(sums[0] + sums[1]);
    for (std::size_t g = 0; g < 8; ++g) dot = S::dot4_biased(dot, w[g], x + 4 * g);
    return S::fma(S::to_f32(dot), S::mul(d, S::set1(dx)), acc);
  }
};

template <class S>
struct Q4Format {
  using Layout = layout::Q4;
  typename S::U8 w[8];
  typename S::F32 d;

  void load(const std::uint8_t* super, std::size_t, std::size_t lane) {
    d = S::load_f16(super + Layout::kScales + 2 * lane);
    load_nibbles<S>(super + Layout::kQuants, lane, w);
  }
  typename S::F32 add(typename S::F32 acc, const std::int8_t* x, float dx,
                      const std::int32_t* sums) const {
    const auto dot = dot32<S>(S::set1_i32(-8 * (sums[0] + sums[1])), w, x);
    return S::fma(S::to_f32(dot), S::mul(d, S::set1(dx)), acc);
  }
};

template <class S>
struct Mxfp4Format {
  using Layout = layout::Mxfp4;
  typename S::U8 w[8];
  typename S::F32 d;

  void load(const std::uint8_t* super, std::size_t, std::size_t lane) {
    d = S::load_e8m0_half(super + Layout::kScales + lane);
    load_nibbles<S>(super + Layout::kQuants, lane, w);
    for (auto& group : w) group = S::lookup(group, kFp4Doubled);
  }
  typename S::F32 add(typename S::F32 acc, const std::int8_t* x, float dx,
                      const std::int32_t* sums) const {
    const auto dot = dot32<S>(S::set1_i32(-12 * (sums[0] + sums[1])), w, x);
    return S::fma(S::to_f32(dot), S::mul(d, S::set1(dx)), acc);
  }
};

// Q4_K and Q5_K: value = d * scale * quant - dmin * min. scale * dot and min * sum are exact: at
// most 63 * 32 * 31 * 127 < 2^23.
template <class S, class L>
struct ScaleMinFormat {
  using Layout = L;
  typename S::U8 w[8];
  typename S::F32 d;
  typename S::F32 dmin;
  typename S::I32 scale;
  typename S::I32 min;

  void load_scales(const std::uint8_t* super, const std::uint8_t* sub, std::size_t lane) {
    d = S::load_f16(super + L::kD + 2 * lane);
    dmin = S::load_f16(super + L::kMin + 2 * lane);
    scale = S::load_u8_i32(sub + L::kSubScales + lane);
    min = S::load_u8_i32(sub + L::kSubMins + lane);
    load_nibbles<S>(sub + L::kSubQuants, lane, w);
  }
  typename S::F32 add(typename S::F32 acc, const std::int8_t* x, float dx,
                      const std::int32_t* sums) const {
    const auto dot = S::mul_i32(scale, dot32<S>(S::set1_i32(0), w, x));
    const auto offset = S::mul_i32(min, S::set1_i32(sums[0] + sums[1]));
    const auto step = S::set1(dx);
    acc = S::fma(S::to_f32(dot), S::mul(d, step), acc);
    return S::fnma(S::to_f32(offset), S::mul(dmin, step), acc);
  }
};

template <class S>
struct Q4KFormat : ScaleMinFormat<S, layout::Q4K> {
  void load(const std::uint8_t* super, std::size_t sub, std::size_t lane) {
    this->load_scales(super, super + layout::Q4K::kSub + sub * layout::Q4K::kSubBytes, lane);
  }
};

template <class S>
struct Q5KFormat : ScaleMinFormat<S, layout::Q5K> {
  using L = layout::Q5K;

  void load(const std::uint8_t* super, std::size_t sub, std::size_t lane) {
    const std::uint8_t* bytes = super + L::kSub + sub * L::kSubBytes;
    this->load_scales(super, bytes, lane);
    const auto high = S::load_u8(bytes + L::kSubHigh + 4 * lane);
    add_high<0>(S::template shift_left<4>(high));
    add_high<1>(S::template shift_left<3>(high));
    add_high<2>(S::template shift_left<2>(high));
    add_high<3>(S::template shift_left<1>(high));
    add_high<4>(high);
    add_high<5>(S::template shift_right<1>(high));
    add_high<6>(S::template shift_right<2>(high));
    add_high<7>(S::template shift_right<3>(high));
  }

 private:
  // `bits` has the fifth bit of group kGroup in bit 4 of each byte.
  template <std::size_t kGroup>
  void add_high(typename S::U8 bits) {
    this->w[kGroup] = S::or_u8(this->w[kGroup], S::and_u8(bits, 16));
  }
};

// Q6_K: value = d * scale * (quant - 32), one signed scale for 16 inputs. The exact integer sum of
// both halves is at most 2 * 128 * 16 * 32 * 127 < 2^24.
template <class S>
struct Q6KFormat {
  using Layout = layout::Q6K;
  typename S::U8 w[8];
  typename S::F32 d;
  typename S::I32 scale[2];

  void load(const std::uint8_t* super, std::size_t sub, std::size_t lane) {
    const std::uint8_t* bytes = super + Layout::kSub + sub * Layout::kSubBytes;
    d = S::load_f16(super + Layout::kD + 2 * lane);
    load_nibbles<S>(bytes + Layout::kSubQuants, lane, w);
    for (std::size_t half = 0; half < 2; ++half) {
      scale[half] = S::load_i8_i32(bytes + Layout::kSubScales + half * layout::kLanes + lane);
      const auto high =
          S::load_u8(bytes + Layout::kSubHigh + half * layout::kGroupBytes + 4 * lane);
      add_high(4 * half + 0, S::template shift_left<4>(high));
      add_high(4 * half + 1, S::template shift_left<2>(high));
      add_high(4 * half + 2, high);
      add_high(4 * half + 3, S::template shift_right<2>(high));
    }
  }
  typename S::F32 add(typename S::F32 acc, const std::int8_t* x, float dx,
                      const std::int32_t* sums) const {
    auto total = S::set1_i32(0);
    for (std::size_t half = 0; half < 2; ++half) {
      auto dot = S::set1_i32(-32 * sums[half]);
      for (std::size_t g = 4 * half; g < 4 * half + 4; ++g) dot = S::dot4(dot, w[g], x + 4 * g);
      total = S::add_i32(total, S::mul_i32(scale[half], dot));
    }
    return S::fma(S::to_f32(total), S::mul(d, S::set1(dx)), acc);
  }

 private:
  // `bits` has the high pair of the group in bits 4 and 5 of each byte.
  void add_high(std::size_t group, typename S::U8 bits) {
    w[group] = S::or_u8(w[group], S::and_u8(bits, 48));
  }
};

std::size_t row_of(const Product& product, std::size_t i) {
  return product.index != nullptr ? product.index[i] : i;
}

// Stores the outputs of a panel from `lane` on; the last panel may be short.
template <class S>
void store_outputs(const Product& product, std::size_t row, std::size_t panel, std::size_t lane,
                   typename S::F32 value) {
  const std::size_t output = panel * kPanelOutputs + lane;
  float* y = product.y + row * product.y_stride + output;
  const std::size_t outputs = product.weights->outputs();
  if (output + S::kLanes <= outputs) {
    S::store(y, value);
  } else if (output < outputs) {
    float partial[S::kLanes];
    S::store(partial, value);
    std::memcpy(y, partial, (outputs - output) * sizeof(float));
  }
}

template <class S, class Format, std::size_t kRows>
void block_tile(const Product& product, std::size_t panel, std::size_t first) {
  constexpr std::size_t kSubs = Format::Layout::kInputs / kRowBlock;
  const std::size_t columns = product.x.columns;
  const std::uint8_t* const weights = product.weights->panel(panel);
  const std::int8_t* quants[kRows];
  const float* scales[kRows];
  const std::int32_t* sums[kRows];
  for (std::size_t r = 0; r < kRows; ++r) {
    const std::size_t row = row_of(product, first + r);
    quants[r] = product.x.quants + row * columns;
    scales[r] = product.x.scales + row * (columns / kRowBlock);
    sums[r] = product.x.sums + row * (columns / kSumBlock);
  }
  for (std::size_t lane = 0; lane < kPanelOutputs; lane += S::kLanes) {
    typename S::F32 acc[kRows];
    for (auto& sum : acc) sum = S::zero();
    for (std::size_t block = 0; block < columns / kRowBlock; ++block) {
      Format format;
      format.load(weights + block / kSubs * Format::Layout::kBytes, block % kSubs, lane);
      for (std::size_t r = 0; r < kRows; ++r) {
        acc[r] = format.add(acc[r], quants[r] + block * kRowBlock, scales[r][block],
                            sums[r] + block * (kRowBlock / kSumBlock));
      }
    }
    for (std::size_t r = 0; r < kRows; ++r)
      store_outputs<S>(product, first + r, panel, lane, acc[r]);
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
void float_tile(const Product& product, std::size_t panel, std::size_t first) {
  constexpr std::size_t kVectors = kPanelOutputs / S::kLanes;
  const std::size_t columns = product.x.columns;
  const float* x[kRows];
  for (std::size_t r = 0; r < kRows; ++r)
    x[r] = product.x.values + row_of(product, first + r) * columns;
  typename S::F32 acc[kRows][kVectors];
  for (auto& row : acc) {
    for (auto& sum : row) sum = S::zero();
  }
  const std::uint8_t* weights = product.weights->panel(panel);
  for (std::size_t k = 0; k < columns; ++k, weights += kPanelOutputs * Format::kBytes) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const auto w = Format::load(weights + v * S::kLanes * Format::kBytes);
      for (std::size_t r = 0; r < kRows; ++r) acc[r][v] = S::fma(w, S::set1(x[r][k]), acc[r][v]);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      store_outputs<S>(product, first + r, panel, v * S::kLanes, acc[r][v]);
    }
  }
}

// Rows of a tile: as many as registers hold beside 8 unpacked groups.
template <class S>
constexpr bool kWide = S::kLanes == 16;
template <class S>
constexpr std::size_t kTileRows = kWide<S> ? 8 : 4;

template <class S, class Format, bool kBlocks, std::size_t kRows>
void tile(const Product& product, std::size_t panel, std::size_t first) {
  if constexpr (kBlocks) {
    block_tile<S, Format, kRows>(product, panel, first);
  } else {
    float_tile<S, Format, kRows>(product, panel, first);
  }
}

template <class S, class Format, bool kBlocks>
void multiply(const Product& product, std::size_t panel_begin, std::size_t panel_end) {
  for (std::size_t panel = panel_begin; panel < panel_end; ++panel) {
    std::size_t row = 0;
    for (; row + kTileRows<S> <= product.count; row += kTileRows<S>) {
      tile<S, Format, kBlocks, kTileRows<S>>(product, panel, row);
    }
    if constexpr (kWide<S>) {
      for (; row + 4 <= product.count; row += 4) tile<S, Format, kBlocks, 4>(product, panel, row);
    }
    for (; row + 2 <= product.count; row += 2) tile<S, Format, kBlocks, 2>(product, panel, row);
    for (; row < product.count; ++row) tile<S, Format, kBlocks, 1>(product, panel, row);
  }
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
      return multiply<S, Q4KFormat<S>, true>(product, panel_begin, panel_end);
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
