#include "conclave/engine/kv_blocks.hpp"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

namespace conclave::engine {
namespace {

using model::KvBlockId;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

using Table = std::vector<KvBlockId>;

// The contents of a prefix of `blocks` blocks whose tokens count up from `first`.
struct Prefix {
  Prefix(std::int32_t first, std::size_t blocks, std::string_view salt = "")
      : tokens(blocks * model::kKvBlockTokens) {
    std::iota(tokens.begin(), tokens.end(), first);
    PrefixKey key = prefix_root(salt);
    for (std::size_t i = 0; i < blocks; ++i) keys.push_back(key = prefix_key(key, block(i)));
  }
  [[nodiscard]] BlockTokens block(std::size_t i) const {
    return std::span(tokens).subspan(i * model::kKvBlockTokens).first<model::kKvBlockTokens>();
  }
  [[nodiscard]] BlockContent content(std::size_t i, const Table& table) const {
    BlockContent content{keys[i], std::nullopt, block(i)};
    if (i > 0) content.parent = table[i - 1];
    return content;
  }
  // Takes new blocks and says that they hold the prefix.
  Table publish(KvBlocks& blocks) const {
    Table table;
    EXPECT_TRUE(blocks.allocate(keys.size(), table));
    for (std::size_t i = 0; i < keys.size(); ++i) {
      table[i] = blocks.publish(table[i], content(i, table));
    }
    return table;
  }
  // How much of it is known.
  [[nodiscard]] Table found(const KvBlocks& blocks) const {
    Table table;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const auto block = blocks.find(content(i, table));
      if (!block) break;
      table.push_back(*block);
    }
    return table;
  }

  std::vector<std::int32_t> tokens;
  std::vector<PrefixKey> keys;
};

TEST(KvBlocksTest, GivesEachBlockToOneHolderAndAllOrNone) {
  KvBlocks blocks(5);
  Table a;
  Table b;
  EXPECT_TRUE(blocks.allocate(3, a));
  EXPECT_FALSE(blocks.allocate(3, b));
  EXPECT_THAT(b, IsEmpty());
  EXPECT_TRUE(blocks.allocate(2, b));
  EXPECT_EQ(blocks.free(), 0u);
  std::set<KvBlockId> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_THAT(all, ElementsAre(0, 1, 2, 3, 4));
  blocks.release(a);
  EXPECT_THAT(a, IsEmpty());
  EXPECT_EQ(blocks.free(), 3u);
}

TEST(KvBlocksTest, FindsWhatWasPublishedByItsWholePrefix) {
  KvBlocks blocks(8);
  const Prefix prefix(0, 3);
  const Table table = prefix.publish(blocks);
  EXPECT_EQ(prefix.found(blocks), table);
  EXPECT_EQ(blocks.known(), 3u);
  EXPECT_THAT(Prefix(1, 3).found(blocks), IsEmpty());
  EXPECT_THAT(Prefix(0, 3, "another tenant").found(blocks), IsEmpty());
  // The same tokens in another place are another content.
  const Prefix behind(16, 1);
  EXPECT_EQ(blocks.find(behind.content(0, {})), std::nullopt);
}

TEST(KvBlocksTest, KnowsWhatIsFreeUntilItIsGivenAnew) {
  KvBlocks blocks(4);
  const Prefix prefix(0, 3);
  Table table = prefix.publish(blocks);
  const Table before = table;
  blocks.release(table);
  EXPECT_EQ(blocks.free(), 4u);
  EXPECT_EQ(prefix.found(blocks), before);

  Table other;
  ASSERT_TRUE(blocks.allocate(1, other));  // the one that knows nothing
  EXPECT_EQ(prefix.found(blocks), before);
  ASSERT_TRUE(blocks.allocate(1, other));  // the end of the prefix goes first
  EXPECT_EQ(prefix.found(blocks), Table(before.begin(), before.begin() + 2));
  EXPECT_EQ(other[1], before[2]);
  EXPECT_EQ(blocks.known(), 2u);
}

TEST(KvBlocksTest, ForgetsFirstWhatNobodyHasHeldForLongest) {
  KvBlocks blocks(4);
  const Prefix first(0, 2);
  const Prefix second(100, 2);
  Table a = first.publish(blocks);
  Table b = second.publish(blocks);
  blocks.release(a);
  blocks.release(b);
  a = first.found(blocks);  // used again
  for (const KvBlockId block : a) blocks.hold(block);
  blocks.release(a);
  Table c;
  ASSERT_TRUE(blocks.allocate(2, c));
  EXPECT_EQ(first.found(blocks).size(), 2u);
  EXPECT_THAT(second.found(blocks), IsEmpty());
}

TEST(KvBlocksTest, WhatIsHeldTwiceIsFreeAfterBothHaveLetGo) {
  KvBlocks blocks(2);
  const Prefix prefix(0, 2);
  Table a = prefix.publish(blocks);
  Table b = prefix.found(blocks);
  for (const KvBlockId block : b) blocks.hold(block);
  blocks.release(a);
  EXPECT_EQ(blocks.free(), 0u);
  Table none;
  EXPECT_FALSE(blocks.allocate(1, none));
  blocks.release(b);
  EXPECT_EQ(blocks.free(), 2u);
}

TEST(KvBlocksTest, TheSameContentComputedTwiceIsKeptOnce) {
  KvBlocks blocks(4);
  const Prefix prefix(0, 2);
  const Table a = prefix.publish(blocks);
  EXPECT_EQ(prefix.publish(blocks), a);
  EXPECT_EQ(blocks.free(), 2u);
  EXPECT_EQ(blocks.known(), 2u);
}

// A key that two contents share, as no two have been found to: whoever came first keeps it.
TEST(KvBlocksTest, ACollisionOfKeysIsAMiss) {
  KvBlocks blocks(4);
  const Prefix prefix(0, 1);
  const Table table = prefix.publish(blocks);
  const Prefix other(1000, 1);
  const BlockContent collision{prefix.keys[0], std::nullopt, other.block(0)};
  EXPECT_EQ(blocks.find(collision), std::nullopt);
  Table own;
  ASSERT_TRUE(blocks.allocate(1, own));
  EXPECT_EQ(blocks.publish(own[0], collision), own[0]);
  EXPECT_FALSE(blocks.is_known(own[0]));
  EXPECT_EQ(prefix.found(blocks), table);
  // The same tokens behind another block collide as well.
  const BlockContent elsewhere{prefix.keys[0], own[0], prefix.block(0)};
  EXPECT_EQ(blocks.find(elsewhere), std::nullopt);
}

TEST(KvBlocksTest, WhatIsForgottenIsFoundNoMoreAndGivenFirst) {
  KvBlocks blocks(3);
  const Prefix prefix(0, 2);
  Table table = prefix.publish(blocks);
  const KvBlockId last = table[1];
  blocks.forget(last);
  blocks.forget(last);
  EXPECT_EQ(prefix.found(blocks).size(), 1u);
  EXPECT_EQ(blocks.known(), 1u);
  blocks.release(table);
  Table next;
  ASSERT_TRUE(blocks.allocate(2, next));
  EXPECT_EQ(next[0], last);
  EXPECT_EQ(prefix.found(blocks).size(), 1u);
}

// Many short prefixes over few blocks: whatever is found is what was published, and nothing is lost
// or given twice.
TEST(KvBlocksTest, CountsComeOutOverManyUses) {
  KvBlocks blocks(16);
  std::vector<Table> tables(4);
  for (std::int32_t round = 0; round < 500; ++round) {
    Table& table = tables[static_cast<std::size_t>(round) % tables.size()];
    blocks.release(table);
    const Prefix prefix((round * 7) % 11 * 1000, 4);
    table = prefix.found(blocks);
    for (const KvBlockId block : table) blocks.hold(block);
    std::size_t done = table.size();
    ASSERT_TRUE(blocks.allocate(4 - done, table));
    for (; done < 4; ++done) table[done] = blocks.publish(table[done], prefix.content(done, table));
    ASSERT_EQ(prefix.found(blocks), table);
    std::set<KvBlockId> held;
    for (const Table& each : tables) held.insert(each.begin(), each.end());
    ASSERT_EQ(blocks.free(), 16 - held.size());
    ASSERT_LE(blocks.known(), 16u);
  }
}

TEST(PrefixKeyTest, DependsOnEverythingBefore) {
  const Prefix a(0, 2);
  EXPECT_EQ(a.keys, Prefix(0, 2).keys);
  EXPECT_NE(a.keys[0], a.keys[1]);
  EXPECT_NE(a.keys[0], Prefix(0, 1, "x").keys[0]);
  EXPECT_NE(prefix_root(""), prefix_root("x"));
  Prefix changed(0, 2);
  changed.tokens[0] = 5;
  const PrefixKey first = prefix_key(prefix_root(""), changed.block(0));
  EXPECT_NE(prefix_key(first, changed.block(1)), a.keys[1]);
}

// The same in every process and every version: routers may compare them.
TEST(PrefixKeyTest, IsWhatItAlwaysWas) {
  const PrefixKey key = Prefix(0, 1, "salt").keys[0];
  EXPECT_EQ(key.low, 13547483124561096509u);
  EXPECT_EQ(key.high, 5171933516362994541u);
}

}  // namespace
}  // namespace conclave::engine
