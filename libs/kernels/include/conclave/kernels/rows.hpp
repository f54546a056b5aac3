// Activation rows as matrix products take them: floats, and the same rows rounded to 8 bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conclave/base/aligned.hpp"

namespace conclave::kernels {

/// Values that share one scale. 32 is the smallest block of the weight formats.
inline constexpr std::size_t kRowBlock = 32;
/// Offsets are kept for each 16 values: Q6_K has one scale for so many weights.
inline constexpr std::size_t kSumBlock = 16;

/// Borrowed rows (rows, columns), row-major. `values` or the quantised part may be absent where a
/// product does not need it.
struct RowsView {
  const float* values = nullptr;          // (rows, columns)
  const std::int8_t* quants = nullptr;    // (rows, columns): value ~ quant * scale
  const float* scales = nullptr;          // (rows, columns / 32)
  const std::int32_t* offsets = nullptr;  // (rows, columns / 16), of the quants: see offsets_of
  std::size_t rows = 0;
  std::size_t columns = 0;

  /// Rows [first, first + count) of this view (not checked).
  [[nodiscard]] RowsView slice(std::size_t first, std::size_t count) const;
};

/// Packed weights are unsigned, w + z for a z of their format: w x = (w + z) x - z sum(x). What is
/// kept of the sums is the form that costs the inner loop least: for each block of 32 quants -128
/// times their sum, then -128 times the sum of its last 16.
/// For rows that travelled without offsets, which would be a fifth of the bytes. The same numbers
/// as quantising gives: integers are exact. columns % 32 == 0 (checked).
void offsets_of(const std::int8_t* quants, std::size_t rows, std::size_t columns,
                std::int32_t* offsets);

/// Room for the 8-bit form of rows; reused from step to step, it only grows.
class QuantizedRows {
 public:
  void resize(std::size_t rows, std::size_t columns);

  /// All three parts, with `values` (may be null) beside them.
  [[nodiscard]] RowsView view(const float* values) const;

  [[nodiscard]] std::int8_t* quants(std::size_t row) { return quants_.data() + row * columns_; }
  [[nodiscard]] float* scales(std::size_t row) {
    return scales_.data() + row * (columns_ / kRowBlock);
  }
  [[nodiscard]] std::int32_t* offsets(std::size_t row) {
    return offsets_.data() + row * (columns_ / kSumBlock);
  }

 private:
  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  base::AlignedVector<std::int8_t> quants_;
  base::AlignedVector<float> scales_;
  base::AlignedVector<std::int32_t> offsets_;
};

}  // namespace conclave::kernels
