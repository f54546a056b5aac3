#include "conclave/kernels/rows.hpp"

#include "conclave/base/check.hpp"

namespace conclave::kernels {
namespace {

template <class Vector>
void grow(Vector& vector, std::size_t size) {
  if (vector.size() < size) vector.resize(size);
}

}  // namespace

RowsView RowsView::slice(std::size_t first, std::size_t count) const {
  const auto moved = [first](auto* rows_of, std::size_t width) {
    return rows_of == nullptr ? nullptr : rows_of + first * width;
  };
  const std::size_t blocks = columns / kRowBlock;
  return {moved(values, columns),
          moved(quants, columns),
          moved(scales, blocks),
          {moved(sums.offsets, blocks), moved(sums.half_offsets, 2 * blocks),
           moved(sums.sums, blocks), moved(sums.wide, columns / kWideInputs)},
          count,
          columns};
}

void RowSumsRoom::resize(std::size_t rows, std::size_t columns) {
  CONCLAVE_CHECK(columns % kRowBlock == 0);
  columns_ = columns;
  const std::size_t blocks = rows * (columns / kRowBlock);
  grow(offsets_, blocks);
  grow(half_offsets_, 2 * blocks);
  grow(sums_, blocks);
  grow(wide_, rows * (columns / kWideInputs));
}

RowSums RowSumsRoom::view() const {
  return {offsets_.data(), half_offsets_.data(), sums_.data(), wide_.data()};
}

RowSumsOut RowSumsRoom::at(std::size_t row, std::size_t column) {
  const std::size_t block = (row * columns_ + column) / kRowBlock;
  return {offsets_.data() + block, half_offsets_.data() + 2 * block, sums_.data() + block,
          wide_.data() + row * (columns_ / kWideInputs) + column / kWideInputs};
}

void QuantizedRows::resize(std::size_t rows, std::size_t columns) {
  sums_.resize(rows, columns);
  rows_ = rows;
  columns_ = columns;
  grow(quants_, rows * columns);
  grow(scales_, rows * (columns / kRowBlock));
}

RowsView QuantizedRows::view(const float* values) const {
  return {values, quants_.data(), scales_.data(), sums_.view(), rows_, columns_};
}

}  // namespace conclave::kernels
