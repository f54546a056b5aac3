#include "conclave/kernels/rows.hpp"

#include "conclave/base/check.hpp"

namespace conclave::kernels {

void QuantizedRows::resize(std::size_t rows, std::size_t columns) {
  CONCLAVE_CHECK(columns % kRowBlock == 0);
  rows_ = rows;
  columns_ = columns;
  const auto grow = [](auto& vector, std::size_t size) {
    if (vector.size() < size) vector.resize(size);
  };
  grow(quants_, rows * columns);
  grow(scales_, rows * (columns / kRowBlock));
  grow(sums_, rows * (columns / kSumBlock));
}

RowsView QuantizedRows::view(const float* values) const {
  return {values, quants_.data(), scales_.data(), sums_.data(), rows_, columns_};
}

}  // namespace conclave::kernels
