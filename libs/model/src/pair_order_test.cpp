#include "conclave/model/pair_order.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>
#include <tuple>

namespace conclave::model {
namespace {

std::vector<ExpertPair> random_pairs(std::size_t count, std::uint32_t rows, std::uint32_t experts,
                                     unsigned seed) {
  std::mt19937 random(seed);
  std::vector<ExpertPair> pairs;
  for (std::size_t i = 0; i < count; ++i) {
    pairs.push_back({static_cast<std::uint32_t>(random() % rows),
                     static_cast<std::uint32_t>(random() % experts)});
  }
  return pairs;
}

void expect_sorted(PairOrder& order, const std::vector<ExpertPair>& pairs, std::uint32_t rows,
                   std::uint32_t experts) {
  ASSERT_TRUE(order.sort(pairs, rows, experts));
  std::vector<ExpertPair> expected = pairs;
  std::stable_sort(expected.begin(), expected.end(), [](const auto& a, const auto& b) {
    return std::tie(a.expert, a.row) < std::tie(b.expert, b.row);
  });
  EXPECT_THAT(order.sorted(), testing::ElementsAreArray(expected));
  std::vector<bool> taken(pairs.size());
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const std::uint32_t place = order.places()[p];
    EXPECT_EQ(order.sorted()[place], pairs[p]);
    EXPECT_FALSE(taken[place]);
    taken[place] = true;
  }
  std::size_t first = 0;
  for (std::uint32_t expert = 0; expert < experts; ++expert) {
    const auto count = static_cast<std::size_t>(std::count_if(
        pairs.begin(), pairs.end(), [&](const auto& pair) { return pair.expert == expert; }));
    EXPECT_EQ(order.run(expert).first, first);
    EXPECT_EQ(order.run(expert).count, count);
    first += count;
  }
}

TEST(PairOrderTest, SortsByExpertThenRowWhateverTheOrder) {
  PairOrder order;
  for (unsigned seed = 0; seed < 20; ++seed) {
    expect_sorted(order, random_pairs(seed * 7, 9, 5, seed), 9, 5);
  }
}

TEST(PairOrderTest, SortsWhatAGateListsWithItsRoomReused) {
  PairOrder order;
  for (const std::uint32_t rows : {40u, 3u, 1u, 17u}) {
    std::vector<ExpertPair> pairs = random_pairs(std::size_t{rows} * 4, rows, 16, rows);
    for (std::size_t p = 0; p < pairs.size(); ++p) pairs[p].row = static_cast<std::uint32_t>(p / 4);
    expect_sorted(order, pairs, rows, 16);
  }
}

TEST(PairOrderTest, RefusesRowsAndExpertsThatAreNotThere) {
  PairOrder order;
  ASSERT_TRUE(order.sort(random_pairs(8, 4, 4, 1), 4, 4));
  for (const ExpertPair bad : {ExpertPair{4, 0}, ExpertPair{0, 4}, ExpertPair{~0u, ~0u}}) {
    const std::vector<ExpertPair> pairs{{1, 1}, bad};
    const auto status = order.sort(pairs, 4, 4);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, base::ErrorCode::kInvalidArgument);
    EXPECT_THAT(status.error().message, testing::HasSubstr("pair 1"));
    EXPECT_TRUE(order.sorted().empty());
    EXPECT_EQ(order.run(1).count, 0u);
  }
}

}  // namespace
}  // namespace conclave::model
