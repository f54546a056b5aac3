// The vector kernels, written once over a Simd backend. Sums use 16 partial sums (element i goes to
// sum i % 16) and a fixed tree, whatever the width of the machine's registers.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

template <class S>
constexpr std::size_t kVectors = 16 / S::kLanes;

template <class T>
T tree_sum(const T (&partial)[16]) {
  T sums[8];
  for (std::size_t i = 0; i < 8; ++i) sums[i] = partial[i] + partial[i + 8];
  for (std::size_t i = 0; i < 4; ++i) sums[i] += sums[i + 4];
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

// Calls body(pointer, offset, valid) for each 16 values of x; the last call may get a copy that is
// filled up with `fill`, and its first `valid` values are written back.
template <class Body>
void each16(float* x, std::size_t n, float fill, Body body) {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) body(x + i, i, std::size_t{16});
  if (i < n) {
    float tail[16];
    for (float& value : tail) value = fill;
    std::memcpy(tail, x + i, (n - i) * sizeof(float));
    body(static_cast<float*>(tail), i, n - i);
    std::memcpy(x + i, tail, (n - i) * sizeof(float));
  }
}

// The 16 values of `y` from `offset` on, through `room` at the end of an odd length.
const float* at16(const float* y, std::size_t offset, std::size_t valid, float (&room)[16]) {
  if (valid == 16) return y + offset;
  for (float& value : room) value = 0.0f;
  std::memcpy(room, y + offset, valid * sizeof(float));
  return room;
}

// exp(x), largest error about 1 unit in the last place; below -87.3 it stays at 1e-38, above 88 at
// 1.6e38; NaN stays NaN. Range reduction by n ln 2 in two parts, then the degree-5 polynomial of
// Cephes' expf (S. Moshier).
template <class S>
typename S::F32 exp_lanes(typename S::F32 x) {
  const auto shift = S::set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  x = S::max(S::set1(-87.3f), S::min(S::set1(88.0f), x));
  const auto shifted = S::fma(x, S::set1(1.44269504f), shift);
  const auto n = S::sub(shifted, shift);
  auto r = S::fnma(n, S::set1(0.693359375f), x);
  r = S::fnma(n, S::set1(-2.12194440e-4f), r);
  auto p = S::set1(1.9875691500e-4f);
  p = S::fma(p, r, S::set1(1.3981999507e-3f));
  p = S::fma(p, r, S::set1(8.3334519073e-3f));
  p = S::fma(p, r, S::set1(4.1665795894e-2f));
  p = S::fma(p, r, S::set1(1.6666665459e-1f));
  p = S::fma(p, r, S::set1(5.0000001201e-1f));
  p = S::add(S::fma(p, S::mul(r, r), r), S::set1(1.0f));
  return S::mul(p, S::exp2_shifted(shifted));
}

template <class S>
typename S::F32 sigmoid_lanes(typename S::F32 x) {
  const auto one = S::set1(1.0f);
  return S::div(one, S::add(one, exp_lanes<S>(S::sub(S::zero(), x))));
}

template <class S>
struct VectorKernels {
  using F32 = typename S::F32;
  static constexpr std::size_t kParts = kVectors<S>;

  // Integer comparisons and the rounding by 1.5 * 2^23 make this the same under any compiler flags.
  static void quantize_row(const float* x, std::size_t n, std::size_t block, std::int8_t* quants,
                           float* scales, const RowSumsOut& sums) {
    for (std::size_t begin = 0; begin < n; begin += block) {
      const std::uint32_t largest = S::largest_bits(x + begin, block);  // inf, NaN: the largest
      float amax;
      std::memcpy(&amax, &largest, sizeof amax);
      const bool finite = largest < 0x7F800000u;
      const bool tiny = largest < 0x04000000u;  // 1.5e-36: the inverse of its scale is still finite
      const float unrounded = finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
      const float scale = finite && !tiny ? amax / 127.0f : unrounded;
      if (finite && !tiny) {
        S::round(x + begin, block, 127.0f / amax, quants + begin);
      } else {
        std::memset(quants + begin, 0, block);
      }
      for (std::size_t i = begin; i < begin + block; i += kRowBlock) scales[i / kRowBlock] = scale;
    }
    sum_row(quants, n, sums);
  }

  static void sum_row(const std::int8_t* quants, std::size_t n, const RowSumsOut& sums) {
    const std::size_t blocks = n / kRowBlock;
    for (std::size_t i = 0; i < n / kWideInputs; ++i) {
      const auto largest = S::largest_magnitudes(quants + i * kWideInputs);
      const int half = largest.of16 > kNarrowHalf ? kWideHalf : 0;
      const int block = largest.of32 > kNarrowBlock ? kWideBlock : 0;
      sums.wide[i] = static_cast<std::uint8_t>(half | block);
    }
    std::size_t at = 0;
    if constexpr (S::kLanes == 16) {
      for (; at + 8 <= blocks; at += 8) {
        const auto halves = S::sums16(quants + at * kRowBlock);
        S::store_product(halves, -32, sums.half_offsets + 2 * at);
        S::store_pair_sums(halves, -128, sums.offsets + at, sums.sums + at);
      }
    }
    for (; at < blocks; ++at) {
      const std::int32_t first = S::sum16(quants + at * kRowBlock);
      const std::int32_t later = S::sum16(quants + at * kRowBlock + kHalfBlock);
      sums.offsets[at] = -128 * (first + later);
      sums.half_offsets[2 * at] = -32 * first;
      sums.half_offsets[2 * at + 1] = -32 * later;
      sums.sums[at] = static_cast<std::int16_t>(first + later);
    }
  }

  static void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* out) {
    F32 acc[kParts];
    for (auto& sum : acc) sum = S::zero();
    float room[16];
    for (std::size_t i = 0; i < n; i += 16) {
      const float* values = at16(x, i, n - i < 16 ? n - i : 16, room);
      for (std::size_t v = 0; v < kParts; ++v) {
        const F32 part = S::load(values + v * S::kLanes);
        acc[v] = S::fma(part, part, acc[v]);
      }
    }
    float partial[16];
    for (std::size_t v = 0; v < kParts; ++v) S::store(partial + v * S::kLanes, acc[v]);
    const float scale = 1.0f / std::sqrt(tree_sum(partial) / static_cast<float>(n) + eps);
    const F32 factor = S::set1(scale);
    std::size_t i = 0;
    for (; i + S::kLanes <= n; i += S::kLanes) {
      S::store(out + i, S::mul(S::mul(S::load(x + i), factor), S::load(weight + i)));
    }
    for (; i < n; ++i) out[i] = x[i] * scale * weight[i];
  }

  static void axpy(float a, const float* x, std::size_t n, float* y) {
    const F32 factor = S::set1(a);
    each16(y, n, 0.0f, [&](float* out, std::size_t offset, std::size_t valid) {
      float room[16];
      const float* in = at16(x, offset, valid, room);
      for (std::size_t v = 0; v < 16; v += S::kLanes) {
        S::store(out + v, S::fma(factor, S::load(in + v), S::load(out + v)));
      }
    });
  }

  static void add_weighted(const WeightedRows& rows, const float* last, float last_weight,
                           std::size_t n, float* y) {
    each16(y, n, 0.0f, [&](float* out, std::size_t offset, std::size_t valid) {
      F32 acc[kParts];
      for (auto& sum : acc) sum = S::zero();
      const auto add = [&](float weight, const float* row) {
        float room[16];
        const float* in = at16(row, offset, valid, room);
        const F32 factor = S::set1(weight);
        for (std::size_t v = 0; v < kParts; ++v) {
          acc[v] = S::fma(factor, S::load(in + v * S::kLanes), acc[v]);
        }
      };
      for (std::size_t i = 0; i < rows.count; ++i) add(rows.weights[i], rows.rows[i]);
      if (last != nullptr) add(last_weight, last);
      for (std::size_t v = 0; v < kParts; ++v) {
        float* sum = out + v * S::kLanes;
        S::store(sum, S::add(S::load(sum), acc[v]));
      }
    });
  }

  static void swiglu(float* gate, const float* up, std::size_t n) {
    each16(gate, n, 0.0f, [&](float* out, std::size_t offset, std::size_t valid) {
      float room[16];
      const float* in = at16(up, offset, valid, room);
      for (std::size_t v = 0; v < 16; v += S::kLanes) {
        const F32 g = S::load(out + v);
        const F32 e = exp_lanes<S>(S::sub(S::zero(), g));
        const F32 silu = S::div(g, S::add(S::set1(1.0f), e));
        S::store(out + v, S::mul(silu, S::load(in + v)));
      }
    });
  }

  static void swiglu_clamped(float* gate, const float* up, std::size_t n, float alpha,
                             float limit) {
    each16(gate, n, 0.0f, [&](float* out, std::size_t offset, std::size_t valid) {
      float room[16];
      const float* in = at16(up, offset, valid, room);
      for (std::size_t v = 0; v < 16; v += S::kLanes) {
        const F32 g = S::min(S::set1(limit), S::load(out + v));
        const F32 u = S::max(S::set1(-limit), S::min(S::set1(limit), S::load(in + v)));
        const F32 glu = S::mul(g, sigmoid_lanes<S>(S::mul(S::set1(alpha), g)));
        S::store(out + v, S::mul(glu, S::add(u, S::set1(1.0f))));
      }
    });
  }

  static float exp_sum(float* x, std::size_t n, float shift) {
    F32 acc[kParts];
    for (auto& sum : acc) sum = S::zero();
    const F32 offset = S::set1(shift);
    each16(x, n, 0.0f, [&](float* values, std::size_t, std::size_t valid) {
      for (std::size_t v = 0; v < 16; v += S::kLanes) {
        S::store(values + v, exp_lanes<S>(S::sub(S::load(values + v), offset)));
      }
      for (std::size_t i = valid; i < 16; ++i) values[i] = 0.0f;
      for (std::size_t v = 0; v < kParts; ++v) {
        acc[v] = S::add(acc[v], S::load(values + v * S::kLanes));
      }
    });
    float partial[16];
    for (std::size_t v = 0; v < kParts; ++v) S::store(partial + v * S::kLanes, acc[v]);
    return tree_sum(partial);
  }

  static void sigmoid(float* x, std::size_t n) {
    each16(x, n, 0.0f, [&](float* values, std::size_t, std::size_t) {
      for (std::size_t v = 0; v < 16; v += S::kLanes) {
        S::store(values + v, sigmoid_lanes<S>(S::load(values + v)));
      }
    });
  }

  static float max(const float* x, std::size_t n) {
    constexpr std::size_t kChains = 2 * kParts;
    F32 most[kChains];
    for (auto& part : most) part = S::set1(x[0]);
    std::size_t i = 0;
    for (; i + 32 <= n; i += 32) {
      for (std::size_t v = 0; v < kChains; ++v) {
        most[v] = S::max(S::load(x + i + v * S::kLanes), most[v]);
      }
    }
    for (; i + S::kLanes <= n; i += S::kLanes) most[0] = S::max(S::load(x + i), most[0]);
    for (std::size_t v = 1; v < kChains; ++v) most[0] = S::max(most[v], most[0]);
    float largest = S::largest(most[0]);
    for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    return largest;
  }
};

}  // namespace
}  // namespace conclave::kernels
