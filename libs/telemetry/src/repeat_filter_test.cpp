#include "conclave/telemetry/repeat_filter.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace conclave::telemetry {
namespace {

using std::chrono::seconds;

struct RepeatFilterTest : testing::Test {
  RepeatFilter::Time now{seconds(1000)};
};

TEST_F(RepeatFilterTest, LetsOneThroughAnIntervalAndCountsTheRest) {
  RepeatFilter filter(seconds(10));
  EXPECT_EQ(filter.admit("peer", now), 0u);
  EXPECT_EQ(filter.admit("peer", now), std::nullopt);
  EXPECT_EQ(filter.admit("peer", now + seconds(9)), std::nullopt);
  EXPECT_EQ(filter.admit("peer", now + seconds(10)), 2u);
  EXPECT_EQ(filter.admit("peer", now + seconds(20)), 0u);
}

TEST_F(RepeatFilterTest, KeepsKeysApart) {
  RepeatFilter filter(seconds(10));
  EXPECT_EQ(filter.admit("a", now), 0u);
  EXPECT_EQ(filter.admit("b", now), 0u);
  EXPECT_EQ(filter.admit("b", now), std::nullopt);
}

TEST_F(RepeatFilterTest, SharesOneEntryAmongKeysBeyondItsBound) {
  RepeatFilter filter(seconds(10), 2);
  EXPECT_EQ(filter.admit("a", now), 0u);
  EXPECT_EQ(filter.admit("b", now), 0u);
  EXPECT_EQ(filter.admit("c", now), 0u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(filter.admit("d" + std::to_string(i), now), std::nullopt);
  EXPECT_EQ(filter.admit("a", now), std::nullopt) << "known keys keep their own entry";
}

TEST_F(RepeatFilterTest, MakesRoomWhenOldKeysExpire) {
  RepeatFilter filter(seconds(10), 2);
  filter.admit("a", now);
  filter.admit("b", now);
  const auto later = now + seconds(10);
  EXPECT_EQ(filter.admit("c", later), 0u);
  EXPECT_EQ(filter.admit("d", later), 0u);
  EXPECT_EQ(filter.admit("c", later), std::nullopt);
}

TEST_F(RepeatFilterTest, LetsExactlyOneOfManyThreadsThrough) {
  RepeatFilter filter(seconds(10));
  std::atomic<int> passed = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        if (filter.admit("same", now)) ++passed;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(passed, 1);
  EXPECT_EQ(filter.admit("same", now + seconds(10)), 3999u);
}

}  // namespace
}  // namespace conclave::telemetry
