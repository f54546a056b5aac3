#include "snapshot.hpp"

#include <gtest/gtest.h>

namespace conclave::registry {
namespace {

TEST(SnapshotTest, KeepsTheLastAnswer) {
  Snapshot<int> snapshot(2, 100);
  EXPECT_EQ(snapshot.find("a"), std::nullopt);
  snapshot.keep("a", 1, 10);
  snapshot.keep("a", 2, 10);
  EXPECT_EQ(snapshot.find("a"), 2);
}

TEST(SnapshotTest, ForgetsWhatWasAskedLongestAgo) {
  Snapshot<int> snapshot(2, 100);
  snapshot.keep("a", 1, 10);
  snapshot.keep("b", 2, 10);
  snapshot.keep("a", 3, 10);
  snapshot.keep("c", 4, 10);

  EXPECT_EQ(snapshot.find("a"), 3);
  EXPECT_EQ(snapshot.find("b"), std::nullopt);
  EXPECT_EQ(snapshot.find("c"), 4);
}

TEST(SnapshotTest, IsBoundedByBytes) {
  Snapshot<int> snapshot(100, 100);
  snapshot.keep("a", 1, 60);
  snapshot.keep("b", 2, 60);
  EXPECT_EQ(snapshot.find("a"), std::nullopt);
  EXPECT_EQ(snapshot.find("b"), 2);

  snapshot.keep("b", 3, 101);  // too large: and what was there is not the last answer any more

  EXPECT_EQ(snapshot.find("b"), std::nullopt);
}

}  // namespace
}  // namespace conclave::registry
