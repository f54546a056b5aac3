#include "conclave/base/aligned.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>

namespace conclave::base {
namespace {

TEST(AlignedVectorTest, StartsOnACacheLineOrWhereItIsLargeOnAHugePage) {
  for (const std::size_t bytes :
       {std::size_t{4}, std::size_t{100}, kHugePage - 4, kHugePage, kHugePage + 4, 3 * kHugePage}) {
    const AlignedVector<float> vector(bytes / sizeof(float), 1.0f);
    const auto address = reinterpret_cast<std::uintptr_t>(vector.data());
    EXPECT_EQ(address % (bytes < kHugePage ? kCacheLine : kHugePage), 0u) << bytes;
  }
}

TEST(AlignedVectorTest, KeepsItsNumbersWhereItGrowsBeyondAHugePage) {
  AlignedVector<std::uint32_t> vector(kHugePage / 8);
  std::iota(vector.begin(), vector.end(), 0u);
  const std::size_t before = vector.size();
  vector.resize(kHugePage);
  for (std::size_t i = 0; i < before; ++i) ASSERT_EQ(vector[i], i);
  vector.resize(before);
  vector.shrink_to_fit();
  for (std::size_t i = 0; i < before; ++i) ASSERT_EQ(vector[i], i);
}

}  // namespace
}  // namespace conclave::base
