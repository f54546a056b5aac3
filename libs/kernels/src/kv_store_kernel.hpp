// Writing keys and values to KV blocks, the other half of attention_kernel.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "attention_layout.hpp"
#include "conclave/kernels/attention.hpp"
#include "vector_kernel.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

// 16 numbers as the type stores them.
template <class S>
struct F32Store {
  static constexpr std::size_t kBytes = 4;
  static void store16(std::uint8_t* out, const float* numbers) {
    std::memcpy(out, numbers, 16 * kBytes);
  }
};

template <class S>
struct F16Store {
  static constexpr std::size_t kBytes = 2;
  static void store16(std::uint8_t* out, const float* numbers) {
    for (std::size_t lane = 0; lane < 16; lane += S::kLanes) {
      S::store_f16(out + lane * kBytes, S::load(numbers + lane));
    }
  }
};

template <class S, class Store>
void store_float_keys(const KvRows& rows, std::uint8_t* out) {
  const std::size_t dim = rows.layout.key_dim;
  std::size_t d = 0;
  if (rows.tokens == kKvBlockTokens) {
    for (; d + 16 <= dim; d += 16) {
      float numbers[16 * kKvBlockTokens];
      S::transpose16(rows.keys + d, rows.key_stride, numbers);
      for (std::size_t i = 0; i < 16; ++i) {
        Store::store16(out + (d + i) * kKvBlockTokens * Store::kBytes,
                       numbers + i * kKvBlockTokens);
      }
    }
  }
  for (; d < dim; d += 16) {
    const std::size_t n = dim - d < 16 ? dim - d : 16;
    for (std::size_t t = 0; t < rows.tokens; ++t) {
      float room[16];
      std::uint8_t numbers[16 * Store::kBytes];
      Store::store16(numbers, at16(rows.keys + t * rows.key_stride, d, n, room));
      for (std::size_t i = 0; i < n; ++i) {
        std::memcpy(out + ((d + i) * kKvBlockTokens + rows.slot + t) * Store::kBytes,
                    numbers + i * Store::kBytes, Store::kBytes);
      }
    }
  }
}

template <class S, class Store>
void store_float_values(const KvRows& rows, std::uint8_t* out) {
  const std::size_t dim = rows.layout.value_dim;
  for (std::size_t t = 0; t < rows.tokens; ++t) {
    for (std::size_t d = 0; d < dim; d += kKvSlice) {
      float room[16];
      const float* numbers =
          at16(rows.values + t * rows.value_stride, d, dim - d < 16 ? dim - d : 16, room);
      Store::store16(out + (d * kKvBlockTokens + (rows.slot + t) * kKvSlice) * Store::kBytes,
                     numbers);
    }
  }
}

// Rounds 32 numbers of a token, filled up with zeros at the end of a row; returns their scale.
template <class S>
float quantize_group(const float* row, std::size_t d, std::size_t dim,
                     std::int8_t (&quants)[kKvGroup]) {
  static_assert(kKvGroup == kRowBlock);
  float numbers[kKvGroup] = {};
  std::memcpy(numbers, row + d, (dim - d < kKvGroup ? dim - d : kKvGroup) * sizeof(float));
  float scale;
  std::int32_t offset;  // sums are not kept
  std::int32_t half_offsets[2];
  std::int16_t sum;
  VectorKernels<S>::quantize_row(numbers, kKvGroup, kKvGroup, quants, &scale,
                                 {&offset, half_offsets, &sum, nullptr});
  return scale;
}

// `place` says where in the quants of a group a number of a token goes.
template <class S, class Place>
void store_q8(const KvRows& rows, const float* from, std::size_t stride, std::size_t dim,
              std::uint8_t* out, Place place) {
  for (std::size_t t = 0; t < rows.tokens; ++t) {
    const std::size_t slot = rows.slot + t;
    for (std::size_t d = 0; d < dim; d += kKvGroup) {
      std::int8_t quants[kKvGroup];
      const float scale = quantize_group<S>(from + t * stride, d, dim, quants);
      std::uint8_t* group = out + d / kKvGroup * attention::kQ8GroupBytes;
      std::memcpy(group + slot * sizeof scale, &scale, sizeof scale);
      for (std::size_t i = 0; i < kKvGroup; ++i) {
        std::memcpy(group + attention::kQ8Scales + place(i, slot), quants + i, 1);
      }
    }
  }
}

template <class S, class Store>
void store_float(const KvRows& rows) {
  auto* block = reinterpret_cast<std::uint8_t*>(rows.block);
  store_float_keys<S, Store>(rows, block);
  if (rows.layout.values_in_keys) return;
  store_float_values<S, Store>(rows, block + rows.layout.key_bytes());
}

template <class S>
void store_kv(const KvRows& rows) {
  auto* block = reinterpret_cast<std::uint8_t*>(rows.block);
  switch (rows.layout.type) {
    case KvType::kF32:
      return store_float<S, F32Store<S>>(rows);
    case KvType::kF16:
      return store_float<S, F16Store<S>>(rows);
    case KvType::kQ8_0:
      store_q8<S>(rows, rows.keys, rows.key_stride, rows.layout.key_dim, block,
                  [](std::size_t i, std::size_t slot) { return i * kKvBlockTokens + slot; });
      if (rows.layout.values_in_keys) return;
      store_q8<S>(rows, rows.values, rows.value_stride, rows.layout.value_dim,
                  block + rows.layout.key_bytes(), [](std::size_t i, std::size_t slot) {
                    return i / kKvSlice * (kKvSlice * kKvBlockTokens) + slot * kKvSlice +
                           i % kKvSlice;
                  });
  }
}

}  // namespace
}  // namespace conclave::kernels
