#include "pending_table.hpp"

#include <gtest/gtest.h>

#include <string>

#include "credits.hpp"

namespace conclave::fabric {
namespace {

using Table = PendingTable<std::string>;
const Table::Time kStart{};
using std::chrono::seconds;

TEST(PendingTableTest, GivesOutEachEntryOnce) {
  Table table;
  EXPECT_TRUE(table.add(1, kStart + seconds(1), "a"));
  EXPECT_TRUE(table.add(2, kStart + seconds(2), "b"));
  EXPECT_FALSE(table.add(2, kStart + seconds(3), "c"));
  EXPECT_EQ(table.take(2), "b");
  EXPECT_EQ(table.take(2), std::nullopt);
  EXPECT_EQ(table.size(), 1u);
}

TEST(PendingTableTest, GivesOutWhatHasExpiredOldestFirst) {
  Table table;
  EXPECT_EQ(table.next_deadline(), Table::Time::max());
  table.add(7, kStart + seconds(1), "a");
  table.add(5, kStart + seconds(2), "b");
  table.add(6, kStart + seconds(3), "c");
  table.take(7);
  EXPECT_EQ(table.next_deadline(), kStart + seconds(2));
  EXPECT_EQ(table.take_expired(kStart + seconds(1)), std::nullopt);
  EXPECT_EQ(table.take_expired(kStart + seconds(3)), "b");
  EXPECT_EQ(table.take_expired(kStart + seconds(3)), "c");
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(table.take_any(), std::nullopt);
}

TEST(CreditsTest, BoundMessagesAndBytes) {
  Credits credits(3, 100);
  EXPECT_TRUE(credits.take(60));
  EXPECT_FALSE(credits.take(41));
  EXPECT_TRUE(credits.take(40));
  credits.give(60);
  EXPECT_TRUE(credits.take(1));
  EXPECT_TRUE(credits.take(1));
  EXPECT_FALSE(credits.take(1));  // the fourth message
}

TEST(CreditsTest, LetOneLargeMessageThrough) {
  Credits credits(3, 100);
  EXPECT_TRUE(credits.take(1000));
  EXPECT_FALSE(credits.take(1));
  credits.give(1000);
  EXPECT_TRUE(credits.take(1));
}

}  // namespace
}  // namespace conclave::fabric
