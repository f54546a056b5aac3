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

TEST(RowsTest, RecomputedOffsetsAreThoseOfQuantizing) {
  constexpr std::size_t kRows = 5;
  constexpr std::size_t kColumns = 96;
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> x(kRows * kColumns);
  for (float& value : x) value = normal(random);
  base::ThreadPool pool(1);
  QuantizedRows room;
  const RowsView rows = quantize({kernel_table(best_isa()), pool}, x.data(), kRows, kColumns, room);

  std::vector<std::int32_t> offsets(kRows * kColumns / kSumBlock);
  offsets_of(rows.quants, kRows, kColumns, offsets.data());

  EXPECT_THAT(offsets, testing::ElementsAreArray(rows.offsets, offsets.size()));
}

TEST(RowsTest, OffsetsHoldAtTheEndsOfTheRangeAndAtAnyAddress) {
  std::vector<std::int8_t> quants(1 + 4 * kSumBlock, -128);
  for (std::size_t i = 0; i < kSumBlock; ++i) {
    quants[1 + kSumBlock + i] = 127;
    quants[1 + 2 * kSumBlock + i] = static_cast<std::int8_t>(i);
  }
  std::vector<std::int32_t> offsets(4);
  offsets_of(quants.data() + 1, 1, 4 * kSumBlock, offsets.data());
  const auto of_sums = [](int all, int later) { return std::vector{-128 * all, -128 * later}; };
  EXPECT_THAT(std::span(offsets).first(2), testing::ElementsAreArray(of_sums(-2048 + 2032, 2032)));
  EXPECT_THAT(std::span(offsets).last(2), testing::ElementsAreArray(of_sums(120 - 2048, -2048)));
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
  EXPECT_EQ(slice.offsets, nullptr);
  EXPECT_EQ(slice.rows, 2u);
  EXPECT_EQ(slice.columns, 32u);
}

}  // namespace
}  // namespace conclave::kernels
