#include "conclave/kernels/rows.hpp"

#include <gmock/gmock.h>

#include <cstdint>
#include <random>
#include <vector>

#include "conclave/base/thread_pool.hpp"
#include "conclave/kernels/matmul.hpp"

namespace conclave::kernels {
namespace {

TEST(RowsTest, RecomputedSumsAreThoseOfQuantizing) {
  constexpr std::size_t kRows = 5;
  constexpr std::size_t kColumns = 96;
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> x(kRows * kColumns);
  for (float& value : x) value = normal(random);
  base::ThreadPool pool(1);
  QuantizedRows room;
  const RowsView rows = quantize({kernel_table(best_isa()), pool}, x.data(), kRows, kColumns, room);

  std::vector<std::int32_t> sums(kRows * kColumns / kSumBlock);
  sums_of(rows.quants, kRows, kColumns, sums.data());

  EXPECT_THAT(sums, testing::ElementsAreArray(rows.sums, sums.size()));
}

TEST(RowsTest, SumsHoldAtTheEndsOfTheRangeAndAtAnyAddress) {
  std::vector<std::int8_t> quants(1 + 3 * kSumBlock, -128);
  for (std::size_t i = 0; i < kSumBlock; ++i) {
    quants[1 + kSumBlock + i] = 127;
    quants[1 + 2 * kSumBlock + i] = static_cast<std::int8_t>(i);
  }
  std::vector<std::int32_t> sums(3);
  sums_of(quants.data() + 1, 1, 3 * kSumBlock, sums.data());
  EXPECT_THAT(sums, testing::ElementsAre(-2048, 2032, 120));
}

TEST(RowsTest, ASliceHasTheRowsOfItsViewAndLeavesOutWhatIsAbsent) {
  const float values[4 * 32] = {};
  const std::int8_t quants[4 * 32] = {};
  const float scales[4] = {};
  const RowsView view{values, quants, scales, nullptr, 4, 32};
  const RowsView slice = view.slice(1, 2);
  EXPECT_EQ(slice.values, values + 32);
  EXPECT_EQ(slice.quants, quants + 32);
  EXPECT_EQ(slice.scales, scales + 1);
  EXPECT_EQ(slice.sums, nullptr);
  EXPECT_EQ(slice.rows, 2u);
  EXPECT_EQ(slice.columns, 32u);
}

}  // namespace
}  // namespace conclave::kernels
