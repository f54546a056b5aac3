// Activation rows as matrix products take them: floats, and the same rows rounded to 8 bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conclave/base/aligned.hpp"

namespace conclave::kernels {

/// Scales and sums are kept for each 32 values, the smallest block of the weight formats. Products
/// with K-quants want all 8 scales of 256 values to be the same (see scale_block).
inline constexpr std::size_t kRowBlock = 32;
/// Q6_K has one scale for so many weights.
inline constexpr std::size_t kHalfBlock = 16;

/// Where the magnitudes of a row's inputs sum to at most so much over each half block, the products
/// of a half with quants of Q6_K (at most 32) fit into 16 bits; over each block, those with quants
/// of Q4_K (at most 15). Two such sums are scaled at once. Nearly all rows are narrow so: a wide
/// one has 16 or 32 neighbours whose mean is half of the largest of 256 (of 20,000 rows of 1,024
/// normal numbers 1 in 100 was too wide for Q6_K, none for Q4_K).
inline constexpr std::int32_t kNarrowHalf = 1023;
inline constexpr std::int32_t kNarrowBlock = 2184;
/// Each byte of RowSums::wide is about so many inputs.
inline constexpr std::size_t kWideInputs = 256;
inline constexpr std::uint8_t kWideHalf = 1;   // the magnitudes of a half sum to more
inline constexpr std::uint8_t kWideBlock = 2;  // those of a block do

/// Packed weights are unsigned, w + z for a z of their format: w x = (w + z) x - z sum(x); K-quants
/// with mins need sum(x) as well. Of the sums is kept what costs the inner loops least.
struct RowSums {
  const std::int32_t* offsets = nullptr;       // (rows, columns / 32): -128 times the sum
  const std::int32_t* half_offsets = nullptr;  // (rows, columns / 16): -32 times the sum
  const std::int16_t* sums = nullptr;          // (rows, columns / 32)
  // (rows, columns / 256): kWideHalf | kWideBlock. Inputs behind the last 256 have none.
  const std::uint8_t* wide = nullptr;
};
/// Where they are written to.
struct RowSumsOut {
  std::int32_t* offsets;
  std::int32_t* half_offsets;
  std::int16_t* sums;
  std::uint8_t* wide;
};

/// Borrowed rows (rows, columns), row-major. `values` or the quantised part may be absent where a
/// product does not need it.
struct RowsView {
  const float* values = nullptr;        // (rows, columns)
  const std::int8_t* quants = nullptr;  // (rows, columns): value ~ quant * scale
  const float* scales = nullptr;        // (rows, columns / 32)
  RowSums sums = {};                    // of the quants
  std::size_t rows = 0;
  std::size_t columns = 0;

  /// Rows [first, first + count) of this view (not checked).
  [[nodiscard]] RowsView slice(std::size_t first, std::size_t count) const;
};

/// Room for the sums of rows; reused from step to step, it only grows.
class RowSumsRoom {
 public:
  /// columns % 32 == 0 (checked).
  void resize(std::size_t rows, std::size_t columns);

  [[nodiscard]] RowSums view() const;
  /// From value `column` of a row on, a multiple of 32 (of 256 where `wide` is to say something).
  [[nodiscard]] RowSumsOut at(std::size_t row, std::size_t column = 0);

 private:
  std::size_t columns_ = 0;
  base::AlignedVector<std::int32_t> offsets_;
  base::AlignedVector<std::int32_t> half_offsets_;
  base::AlignedVector<std::int16_t> sums_;
  base::AlignedVector<std::uint8_t> wide_;
};

/// Room for the 8-bit form of rows; reused from step to step, it only grows.
class QuantizedRows {
 public:
  /// columns % 32 == 0 (checked).
  void resize(std::size_t rows, std::size_t columns);

  /// All parts, with `values` (may be null) beside them.
  [[nodiscard]] RowsView view(const float* values) const;

  /// From value `column` of a row on, a multiple of 32.
  [[nodiscard]] std::int8_t* quants(std::size_t row, std::size_t column = 0) {
    return quants_.data() + row * columns_ + column;
  }
  [[nodiscard]] float* scales(std::size_t row, std::size_t column = 0) {
    return scales_.data() + (row * columns_ + column) / kRowBlock;
  }
  [[nodiscard]] RowSumsOut sums(std::size_t row, std::size_t column = 0) {
    return sums_.at(row, column);
  }

 private:
  std::size_t rows_ = 0;
  std::size_t columns_ = 0;
  base::AlignedVector<std::int8_t> quants_;
  base::AlignedVector<float> scales_;
  RowSumsRoom sums_;
};

}  // namespace conclave::kernels
