#include "quotas.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace conclave::placement {
namespace {

using testing::ElementsAre;

TEST(ShareOutTest, IsEqualUpToOneAndUpToTheRoom) {
  EXPECT_THAT(share_out(10, {100, 100, 100}, {0, 0, 0}), ElementsAre(4, 3, 3));
  EXPECT_THAT(share_out(10, {1, 100, 100}, {0, 0, 0}), ElementsAre(1, 5, 4));
  EXPECT_THAT(share_out(10, {100, 2, 1}, {0, 0, 0}), ElementsAre(7, 2, 1));
  EXPECT_THAT(share_out(6, {3, 2, 1}, {0, 0, 0}), ElementsAre(3, 2, 1));
  EXPECT_THAT(share_out(0, {3, 2}, {0, 0}), ElementsAre(0, 0));
}

TEST(ShareOutTest, GivesTheOddOnesToWhoHoldsMost) {
  EXPECT_THAT(share_out(11, {100, 100, 100}, {3, 4, 4}), ElementsAre(3, 4, 4));
  EXPECT_THAT(share_out(10, {100, 100, 100}, {3, 3, 4}), ElementsAre(3, 3, 4));
}

// Row sums, column sums and balance for thousands of random shares.
TEST(SpreadOverLayersTest, BalancesWorkersAndLayersAtOnce) {
  std::mt19937 random(1);
  const auto upto = [&random](std::uint32_t most) {
    return static_cast<std::uint32_t>(random() % (most + 1));
  };
  for (int round = 0; round < 3000; ++round) {
    const std::uint32_t layers = 1 + upto(11);
    const std::size_t workers = 1 + upto(8);
    std::vector<std::uint64_t> shares(workers);
    for (auto& share : shares) share = upto(40);
    std::vector<std::uint32_t> holds(layers * workers);
    for (auto& held : holds) held = upto(6);

    const auto quotas = spread_over_layers(shares, layers, holds);

    std::vector<std::uint64_t> by_layer(layers);
    for (std::size_t i = 0; i < workers; ++i) {
      std::uint64_t sum = 0;
      for (std::uint32_t layer = 0; layer < layers; ++layer) {
        const std::uint64_t quota = quotas[layer * workers + i];
        EXPECT_GE(quota, shares[i] / layers);
        EXPECT_LE(quota, (shares[i] + layers - 1) / layers);
        sum += quota;
        by_layer[layer] += quota;
      }
      ASSERT_EQ(sum, shares[i]) << "round " << round;
    }
    const auto [least, most] = std::minmax_element(by_layer.begin(), by_layer.end());
    ASSERT_LE(*most - *least, 1u) << "round " << round;
  }
}

TEST(SpreadOverLayersTest, WhoHasTheOddOneKeepsIt) {
  // Two workers, four layers, three experts: 2 + 1 or 1 + 2 in each.
  const std::vector<std::uint32_t> held = {1, 2, 2, 1, 2, 1, 1, 2};
  EXPECT_EQ(spread_over_layers({6, 6}, 4, held), held);
}

}  // namespace
}  // namespace conclave::placement
