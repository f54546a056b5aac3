#include "conclave/kernels/rows.hpp"

#include "conclave/base/check.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace conclave::kernels {
namespace {

template <class Vector>
void grow(Vector& vector, std::size_t size) {
  if (vector.size() < size) vector.resize(size);
}

std::int32_t sum16(const std::int8_t* quants) {
#if defined(__SSE2__)
  // Shifted to unsigned bytes, whose sums are one instruction; 16 shifts of 128 are taken back.
  const __m128i signed_bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(quants));
  const __m128i bytes = _mm_xor_si128(signed_bytes, _mm_set1_epi8(-128));
  const __m128i halves = _mm_sad_epu8(bytes, _mm_setzero_si128());
  return _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_srli_si128(halves, 8))) - 16 * 128;
#else
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < kHalfBlock; ++i) sum += quants[i];
  return sum;
#endif
}

}  // namespace

RowsView RowsView::slice(std::size_t first, std::size_t count) const {
  const auto moved = [first](auto* rows_of, std::size_t width) {
    return rows_of == nullptr ? nullptr : rows_of + first * width;
  };
  const std::size_t blocks = columns / kRowBlock;
  return {
      moved(values, columns),
      moved(quants, columns),
      moved(scales, blocks),
      {moved(sums.offsets, blocks), moved(sums.half_offsets, 2 * blocks), moved(sums.sums, blocks)},
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
}

void RowSumsRoom::sum(const std::int8_t* quants, std::size_t rows, std::size_t columns) {
  resize(rows, columns);
  for (std::size_t block = 0; block < rows * (columns / kRowBlock); ++block) {
    const std::int32_t first = sum16(quants + block * kRowBlock);
    const std::int32_t later = sum16(quants + block * kRowBlock + kHalfBlock);
    offsets_[block] = -128 * (first + later);
    half_offsets_[2 * block] = -32 * first;
    half_offsets_[2 * block + 1] = -32 * later;
    sums_[block] = static_cast<std::int16_t>(first + later);
  }
}

RowSums RowSumsRoom::view() const { return {offsets_.data(), half_offsets_.data(), sums_.data()}; }

RowSumsOut RowSumsRoom::at(std::size_t row, std::size_t column) {
  const std::size_t block = (row * columns_ + column) / kRowBlock;
  return {offsets_.data() + block, half_offsets_.data() + 2 * block, sums_.data() + block};
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
