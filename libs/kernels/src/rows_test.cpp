#include "conclave/kernels/rows.hpp"

#include <gmock/gmock.h>

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "conclave/base/thread_pool.hpp"
#include "conclave/kernels/matmul.hpp"

namespace conclave::kernels {
namespace {

// The sums of rows (rows, columns), by one instruction set.
RowSumsRoom sums_of(Isa isa, const std::int8_t* quants, std::size_t rows, std::size_t columns) {
  RowSumsRoom room;
  room.resize(rows, columns);
  for (std::size_t row = 0; row < rows; ++row) {
    kernel_table(isa).sum_row(quants + row * columns, columns, room.at(row));
  }
  return room;
}

TEST(RowsTest, RecomputedSumsAreThoseOfQuantizing) {
  constexpr std::size_t kRows = 5;
  constexpr std::size_t kColumns = 512;
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> x(kRows * kColumns);
  for (float& value : x) value = normal(random);
  base::ThreadPool pool(1);
  for (const std::size_t block : {32u, 256u}) {
    QuantizedRows room;
    const RowsView rows =
        quantize({kernel_table(best_isa()), pool}, x.data(), kRows, kColumns, block, room);

    constexpr std::size_t kBlocks = kRows * kColumns / kRowBlock;
    for (const Isa isa : kIsas) {
      if (!supported(isa)) continue;
      const RowSumsRoom again = sums_of(isa, rows.quants, kRows, kColumns);
      const RowSums sums = again.view();
      EXPECT_THAT(std::span(sums.offsets, kBlocks),
                  testing::ElementsAreArray(rows.sums.offsets, kBlocks));
      EXPECT_THAT(std::span(sums.half_offsets, 2 * kBlocks),
                  testing::ElementsAreArray(rows.sums.half_offsets, 2 * kBlocks));
      EXPECT_THAT(std::span(sums.sums, kBlocks),
                  testing::ElementsAreArray(rows.sums.sums, kBlocks));
    }
  }
}

TEST(RowsTest, SumsHoldAtTheEndsOfTheRangeAndAtAnyAddress) {
  std::vector<std::int8_t> quants(1 + 4 * kHalfBlock, -128);
  for (std::size_t i = 0; i < kHalfBlock; ++i) {
    quants[1 + kHalfBlock + i] = 127;
    quants[1 + 2 * kHalfBlock + i] = static_cast<std::int8_t>(i);
  }
  for (const Isa isa : kIsas) {
    if (!supported(isa)) continue;
    const RowSumsRoom room = sums_of(isa, quants.data() + 1, 1, 4 * kHalfBlock);
    const RowSums sums = room.view();
    EXPECT_THAT(std::span(sums.sums, 2), testing::ElementsAre(-2048 + 2032, 120 - 2048));
    EXPECT_THAT(std::span(sums.offsets, 2),
                testing::ElementsAre(-128 * (-2048 + 2032), -128 * (120 - 2048)));
    EXPECT_THAT(std::span(sums.half_offsets, 4),
                testing::ElementsAre(32 * 2048, -32 * 2032, -32 * 120, 32 * 2048));
  }
}

TEST(RowsTest, ASliceHasTheRowsOfItsViewAndLeavesOutWhatIsAbsent) {
  const float values[4 * 32] = {};
  const std::int8_t quants[4 * 32] = {};
  const float scales[4] = {};
  const RowsView view{values, quants, scales, {}, 4, 32};
  const RowsView slice = view.slice(1, 2);
  EXPECT_EQ(slice.values, values + 32);
  EXPECT_EQ(slice.quants, quants + 32);
  EXPECT_EQ(slice.scales, scales + 1);
  EXPECT_EQ(slice.sums.offsets, nullptr);
  EXPECT_EQ(slice.rows, 2u);
  EXPECT_EQ(slice.columns, 32u);
}

}  // namespace
}  // namespace conclave::kernels
