#include "conclave/kernels/rows.hpp"

#include <gmock/gmock.h>

#include <algorithm>
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
      constexpr std::size_t kWide = kRows * kColumns / kWideInputs;
      EXPECT_THAT(std::span(sums.wide, kWide), testing::ElementsAreArray(rows.sums.wide, kWide));
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

TEST(RowsTest, RowsAreWideFromTheFirstMagnitudeThatIsTooMuch) {
  // `count` numbers `large` and one `rest` from number `begin` on, all others are zero.
  struct Case {
    std::size_t begin;
    std::size_t count;
    std::int8_t large;
    std::int8_t rest;
    int wide;
  };
  constexpr int kBoth = kWideHalf | kWideBlock;
  const std::vector<Case> cases{
      {0, 8, 127, 7, 0},
      {0, 8, 127, 8, kWideHalf},
      {240, 8, -127, -7, 0},
      {240, 8, -127, -8, kWideHalf},
      {64, 7, -128, 127, 0},
      {64, 8, -128, 0, kWideHalf},
      {8, 14, 127, 0, 0},
      {96, 17, 127, 25, kWideHalf},
      {96, 17, 127, 26, kBoth},
      {224, 17, -127, -26, kBoth},
      {112, 17, 127, 26, kWideHalf},
      {32, 32, -128, 0, kBoth},
  };
  for (const Case& given : cases) {
    std::vector<std::int8_t> quants(3 * kWideInputs + kRowBlock);  // a row that ends in a block
    std::int8_t* const at = quants.data() + kWideInputs + given.begin;
    std::fill_n(at, given.count, given.large);
    if (given.rest != 0) at[given.count] = given.rest;
    for (const Isa isa : kIsas) {
      if (!supported(isa)) continue;
      const RowSumsRoom room = sums_of(isa, quants.data(), 1, quants.size());
      EXPECT_THAT(std::span(room.view().wide, 3), testing::ElementsAre(0, given.wide, 0))
          << to_string(isa) << ", " << given.count << " of " << int{given.large} << " and "
          << int{given.rest} << " from " << given.begin;
    }
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

TEST(RowsTest, SumsLieWhereRowsAndTheirPartsSay) {
  constexpr std::size_t kColumns = 2 * kWideInputs + 3 * kRowBlock;
  constexpr std::size_t kBlocks = kColumns / kRowBlock;
  RowSumsRoom room;
  room.resize(4, kColumns);
  const RowSums all = room.view();
  RowsView view;
  view.sums = all;
  view.rows = 4;
  view.columns = kColumns;
  const RowSums sliced = view.slice(2, 2).sums;
  const RowSumsOut row = room.at(2);
  const RowSumsOut part = room.at(2, kWideInputs);
  EXPECT_EQ(row.offsets, all.offsets + 2 * kBlocks);
  EXPECT_EQ(row.half_offsets, all.half_offsets + 4 * kBlocks);
  EXPECT_EQ(row.sums, all.sums + 2 * kBlocks);
  EXPECT_EQ(row.wide, all.wide + 4);
  EXPECT_EQ(sliced.offsets, row.offsets);
  EXPECT_EQ(sliced.half_offsets, row.half_offsets);
  EXPECT_EQ(sliced.sums, row.sums);
  EXPECT_EQ(sliced.wide, row.wide);
  EXPECT_EQ(part.offsets, row.offsets + 8);
  EXPECT_EQ(part.half_offsets, row.half_offsets + 16);
  EXPECT_EQ(part.sums, row.sums + 8);
  EXPECT_EQ(part.wide, row.wide + 1);
}

}  // namespace
}  // namespace conclave::kernels
