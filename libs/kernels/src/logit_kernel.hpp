// Kernels over a row of scores: what sampling a token and choosing experts ask of it. Written once
// over a Simd backend, with sums in one order as in vector_kernel.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "vector_kernel.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

std::size_t up_to(std::size_t n, std::size_t end) { return end < n ? end : n; }

template <class S>
struct LogitKernels {
  using F32 = typename S::F32;
  static constexpr std::size_t kParts = kVectors<S>;

  static bool block_maxima(const float* x, std::size_t n, float* maxima, float* copy) {
    return copy == nullptr ? maxima_of<false>(x, n, maxima, copy)
                           : maxima_of<true>(x, n, maxima, copy);
  }

  static std::size_t at_least(const float* x, std::size_t n, const float* maxima, float least,
                              std::int32_t* ids, float* values) {
    const F32 bound = S::set1(least);
    std::size_t count = 0;
    for (std::size_t block = 0; block * kMaximaBlock < n; ++block) {
      if (!(maxima[block] >= least)) continue;
      const std::size_t end = up_to(n, (block + 1) * kMaximaBlock);
      std::size_t i = block * kMaximaBlock;
      for (; i + S::kLanes <= end; i += S::kLanes) {
        const F32 v = S::load(x + i);
        const std::uint32_t bits = S::at_least(v, bound);
        S::compress(values + count, v, bits);
        S::compress_numbers(ids + count, static_cast<std::int32_t>(i), bits);
        count += static_cast<std::size_t>(__builtin_popcount(bits));
      }
      for (; i < end; ++i) {
        values[count] = x[i];
        ids[count] = static_cast<std::int32_t>(i);
        count += x[i] >= least ? 1 : 0;
      }
    }
    return count;
  }

  static void exp_scaled(const float* x, std::size_t n, float shift, float divisor, float* out) {
    scaled(divisor, [&](auto power) {
      std::size_t i = 0;
      for (; i + 16 <= n; i += 16) {
        for (std::size_t v = i; v < i + 16; v += S::kLanes) {
          S::store(out + v, power(S::load(x + v), S::set1(shift), S::set1(divisor)));
        }
      }
      if (i == n) return;
      float room[16];
      const float* in = at16(x, i, n - i, room);
      float last[16];
      for (std::size_t v = 0; v < 16; v += S::kLanes) {
        S::store(last + v, power(S::load(in + v), S::set1(shift), S::set1(divisor)));
      }
      std::memcpy(out + i, last, (n - i) * sizeof(float));
    });
  }

  static void exp_masses(const float* x, std::size_t n, float shift, float divisor,
                         double* masses) {
    scaled(divisor, [&](auto power) {
      const F32 offset = S::set1(shift);
      const F32 factor = S::set1(divisor);
      for (std::size_t begin = 0; begin < n; begin += kMassBlock) {
        const std::size_t end = up_to(n, begin + kMassBlock);
        typename S::F64 acc[kParts];
        for (auto& sum : acc) sum = S::zero_f64();
        std::size_t i = begin;
        for (; i + 16 <= end; i += 16) {
          for (std::size_t v = 0; v < kParts; ++v) {
            const F32 value = S::load(x + i + v * S::kLanes);
            acc[v] = S::add_f64(acc[v], power(value, offset, factor));
          }
        }
        double partial[16];
        for (std::size_t v = 0; v < kParts; ++v) S::store_f64(partial + v * S::kLanes, acc[v]);
        if (i < end) {
          float last[16];
          exp_scaled(x + i, end - i, shift, divisor, last);
          for (std::size_t lane = 0; lane < end - i; ++lane) partial[lane] += double{last[lane]};
        }
        masses[begin / kMassBlock] = tree_sum(partial);
      }
    });
  }

 private:
  // The finite are those whose product with 0 is 0.
  template <bool kCopy>
  static bool maxima_of(const float* x, std::size_t n, float* maxima, float* copy) {
    F32 broken[kParts];
    for (auto& part : broken) part = S::zero();
    for (std::size_t begin = 0; begin < n; begin += kMaximaBlock) {
      const std::size_t end = up_to(n, begin + kMaximaBlock);
      F32 most[kParts];
      for (auto& part : most) part = S::set1(x[begin]);
      std::size_t i = begin;
      for (; i + 16 <= end; i += 16) {
        for (std::size_t v = 0; v < kParts; ++v) {
          const F32 value = S::load(x + i + v * S::kLanes);
          most[v] = S::max(most[v], value);
          broken[v] = S::add(broken[v], S::mul(value, S::zero()));
          if constexpr (kCopy) S::store(copy + i + v * S::kLanes, value);
        }
      }
      if (i < end) {
        float room[16];
        for (float& value : room) value = x[begin];
        std::memcpy(room, x + i, (end - i) * sizeof(float));
        for (std::size_t v = 0; v < kParts; ++v) {
          const F32 value = S::load(room + v * S::kLanes);
          most[v] = S::max(most[v], value);
          broken[v] = S::add(broken[v], S::mul(value, S::zero()));
        }
        if constexpr (kCopy) std::memcpy(copy + i, x + i, (end - i) * sizeof(float));
      }
      for (std::size_t v = 1; v < kParts; ++v) most[0] = S::max(most[0], most[v]);
      maxima[begin / kMaximaBlock] = S::largest(most[0]);
    }
    float zeros[16];
    for (std::size_t v = 0; v < kParts; ++v) S::store(zeros + v * S::kLanes, broken[v]);
    bool finite = true;
    for (const float zero : zeros) finite = finite && zero == 0.0f;
    return finite;
  }

  // Calls body with exp((value - shift) / divisor), without the division where it changes nothing.
  template <class Body>
  static void scaled(float divisor, Body body) {
    if (divisor == 1.0f) {
      body([](F32 value, F32 shift, F32) { return exp_lanes<S>(S::sub(value, shift)); });
    } else {
      body([](F32 value, F32 shift, F32 by) {
        return exp_lanes<S>(S::div(S::sub(value, shift), by));
      });
    }
  }
};

// Scores become integers of the same order, the place below them: each step takes the largest, 16
// at a time, with no branch but the loop's.
void top_k(const float* scores, std::size_t n, std::size_t k, std::int64_t* room,
           std::uint32_t* best) {
  constexpr std::int64_t kTaken = std::numeric_limits<std::int64_t>::min();
  for (std::size_t i = 0; i < n; ++i) {
    const float score = scores[i] + 0.0f;  // -0 becomes 0, its equal
    std::int32_t bits;
    std::memcpy(&bits, &score, sizeof bits);
    const std::int32_t order = bits ^ ((bits >> 31) & 0x7FFFFFFF);
    room[i] = std::int64_t{order} * (std::int64_t{1} << 32) + (0x7FFFFFFF - static_cast<int>(i));
  }
  const std::size_t padded = (n + 15) / 16 * 16;
  for (std::size_t i = n; i < padded; ++i) room[i] = kTaken;
  for (std::size_t pick = 0; pick < k; ++pick) {
    std::int64_t lanes[16];
    for (std::size_t lane = 0; lane < 16; ++lane) lanes[lane] = room[lane];
    for (std::size_t i = 16; i < padded; i += 16) {
      for (std::size_t lane = 0; lane < 16; ++lane) {
        lanes[lane] = room[i + lane] > lanes[lane] ? room[i + lane] : lanes[lane];
      }
    }
    std::int64_t most = lanes[0];
    for (const std::int64_t lane : lanes) most = lane > most ? lane : most;
    const auto place = 0x7FFFFFFFu - static_cast<std::uint32_t>(most & 0xFFFFFFFF);
    best[pick] = place;
    room[place] = kTaken;
  }
}

}  // namespace
}  // namespace conclave::kernels
