#include "conclave/kernels/rows.hpp"

#include "conclave/base/check.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace conclave::kernels {
namespace {

std::int32_t sum16(const std::int8_t* quants) {
#if defined(__SSE2__)
  // Shifted to unsigned bytes, whose sums are one instruction; 16 shifts of 128 are taken back.
  const __m128i signed_bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(quants));
  const __m128i bytes = _mm_xor_si128(signed_bytes, _mm_set1_epi8(-128));
  const __m128i halves = _mm_sad_epu8(bytes, _mm_setzero_si128());
  return _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_srli_si128(halves, 8))) - 16 * 128;
#else
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < kSumBlock; ++i) sum += quants[i];
  return sum;
#endif
}

}  // namespace

RowsView RowsView::slice(std::size_t first, std::size_t count) const {
  const auto moved = [first](auto* rows_of, std::size_t width) {
    return rows_of == nullptr ? nullptr : rows_of + first * width;
  };
  return {moved(values, columns),
          moved(quants, columns),
          moved(scales, columns / kRowBlock),
          moved(offsets, columns / kSumBlock),
          count,
          columns};
}

void offsets_of(const std::int8_t* quants, std::size_t rows, std::size_t columns,
                std::int32_t* offsets) {
  CONCLAVE_CHECK(columns % kRowBlock == 0);
  const std::size_t blocks = rows * (columns / kRowBlock);
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::int32_t later = sum16(quants + block * kRowBlock + kSumBlock);
    offsets[2 * block] = -128 * (sum16(quants + block * kRowBlock) + later);
    offsets[2 * block + 1] = -128 * later;
  }
}

void QuantizedRows::resize(std::size_t rows, std::size_t columns) {
  CONCLAVE_CHECK(columns % kRowBlock == 0);
  rows_ = rows;
  columns_ = columns;
  const auto grow = [](auto& vector, std::size_t size) {
    if (vector.size() < size) vector.resize(size);
  };
  grow(quants_, rows * columns);
  grow(scales_, rows * (columns / kRowBlock));
  grow(offsets_, rows * (columns / kSumBlock));
}

RowsView QuantizedRows::view(const float* values) const {
  return {values, quants_.data(), scales_.data(), offsets_.data(), rows_, columns_};
}

}  // namespace conclave::kernels
