#include "conclave/base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace conclave::base {
namespace {

TEST(ThreadPoolTest, RunsEveryTaskOnceAndReturnsAfterTheLast) {
  for (const unsigned threads : {1u, 2u, 5u}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const std::size_t tasks : {0u, 1u, 2u, 1000u}) {
      std::vector<int> done(tasks, 0);  // plain ints: the loop's end must publish the writes
      pool.for_each(tasks, [&](std::size_t task, unsigned thread) {
        ASSERT_LT(thread, threads);
        ++done[task];
      });
      EXPECT_EQ(done, std::vector<int>(tasks, 1));
    }
  }
}

// Most workers come too late for most of these loops, and some in the middle.
TEST(ThreadPoolTest, ManyShortLoopsFollowEachOther) {
  for (const unsigned threads : {2u, 3u, 12u}) {
    ThreadPool pool(threads);
    std::vector<int> done(3, 0);
    constexpr int kRounds = 10000;
    for (int round = 0; round < kRounds; ++round) {
      pool.for_each(done.size(), [&](std::size_t task, unsigned) { ++done[task]; });
    }
    EXPECT_EQ(done, std::vector<int>(3, kRounds));
  }
}

TEST(ThreadPoolTest, CallersOnSeveralThreadsTakeTurns) {
  ThreadPool pool(2);
  const auto call = [&pool](std::vector<int>& done) {
    for (int round = 0; round < 2000; ++round) {
      pool.for_each(done.size(), [&](std::size_t task, unsigned) { ++done[task]; });
    }
  };
  std::vector<int> mine(7), theirs(5);
  std::thread other([&] { call(theirs); });
  call(mine);
  other.join();
  EXPECT_EQ(mine, std::vector<int>(7, 2000));
  EXPECT_EQ(theirs, std::vector<int>(5, 2000));
}

}  // namespace
}  // namespace conclave::base
