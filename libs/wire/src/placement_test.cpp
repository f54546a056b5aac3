#include "conclave/wire/placement.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace conclave::wire {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(ExpertBitsTest, HoldsWhatWasSet) {
  ExpertBits bits(3, 50);
  EXPECT_EQ(bits.words().size(), 3u);
  EXPECT_EQ(bits.count(), 0u);

  bits.set(0, 0);
  bits.set(1, 13);  // bit 63
  bits.set(1, 14);  // bit 64
  bits.set(2, 49);
  bits.set(2, 49);

  EXPECT_EQ(bits.count(), 4u);
  for (std::uint32_t layer = 0; layer < 3; ++layer) {
    for (std::uint32_t expert = 0; expert < 50; ++expert) {
      const std::uint32_t bit = layer * 50 + expert;
      EXPECT_EQ(bits.test(layer, expert), bit == 0 || bit == 63 || bit == 64 || bit == 149) << bit;
    }
  }
  bits.set(1, 14, false);
  EXPECT_FALSE(bits.test(1, 14));
  EXPECT_EQ(bits.count(), 3u);
}

TEST(ExpertBitsTest, IsFalseOutsideOfTheRange) {
  ExpertBits bits(2, 4);
  for (std::uint32_t expert = 0; expert < 4; ++expert) {
    bits.set(0, expert);
    bits.set(1, expert);
  }
  EXPECT_FALSE(bits.test(0, 4));  // would be (1, 0)
  EXPECT_FALSE(bits.test(2, 0));
  EXPECT_FALSE(bits.test(std::numeric_limits<std::uint32_t>::max(), 0));
  EXPECT_FALSE(ExpertBits().test(0, 0));
}

TEST(ExpertBitsTest, FitsGivenWordsToItsSize) {
  const std::uint64_t words[] = {~0ull, ~0ull, ~0ull};

  const ExpertBits cut(1, 65, words);
  EXPECT_EQ(cut.count(), 65u);
  EXPECT_THAT(cut.words(), ElementsAre(~0ull, 1ull));

  const ExpertBits filled(2, 64, std::span(words).first(1));
  EXPECT_EQ(filled.count(), 64u);
  EXPECT_TRUE(filled.test(0, 63));
  EXPECT_FALSE(filled.test(1, 0));

  EXPECT_THAT(ExpertBits(0, 128, words).words(), IsEmpty());
}

TEST(ExpertBitsDeathTest, SetsNothingOutsideOfTheRange) {
  ExpertBits bits(2, 4);
  EXPECT_DEATH(bits.set(0, 4), "");
  EXPECT_DEATH(bits.set(2, 0), "");
}

RoutingTable table() {
  RoutingTable table;
  table.layers = 2;
  table.experts = 2;
  table.workers.resize(3);
  table.first = {0, 1, 3, 3, 4};
  table.pool = {2, 0, 1, 2};
  return table;
}

TEST(RoutingTableTest, FindsThePoolOfEveryExpert) {
  const RoutingTable routes = table();
  EXPECT_THAT(routes.pool_of(0, 0), ElementsAre(2));
  EXPECT_THAT(routes.pool_of(0, 1), ElementsAre(0, 1));
  EXPECT_THAT(routes.pool_of(1, 0), IsEmpty());
  EXPECT_THAT(routes.pool_of(1, 1), ElementsAre(2));
}

TEST(RoutingTableTest, HasNoPoolOutsideOfTheRange) {
  const RoutingTable routes = table();
  EXPECT_THAT(routes.pool_of(0, 2), IsEmpty());
  EXPECT_THAT(routes.pool_of(2, 0), IsEmpty());
  EXPECT_THAT(routes.pool_of(std::numeric_limits<std::uint32_t>::max(), 1), IsEmpty());
  EXPECT_THAT(RoutingTable().pool_of(0, 0), IsEmpty());
}

TEST(RoutingTableTest, HasNoPoolWhereItContradictsItself) {
  RoutingTable routes = table();
  routes.first = {0, 9, 3, 3, 9};
  EXPECT_THAT(routes.pool_of(0, 0), IsEmpty());  // ends behind the pool
  EXPECT_THAT(routes.pool_of(0, 1), IsEmpty());  // falls
  routes.first.clear();
  EXPECT_THAT(routes.pool_of(0, 0), IsEmpty());
}

}  // namespace
}  // namespace conclave::wire
