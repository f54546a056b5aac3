#include "conclave/base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
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
      const auto body = [&](std::size_t task, unsigned thread) {
        ASSERT_LT(thread, threads);
        ++done[task];
      };
      pool.for_each(tasks, body);
      EXPECT_EQ(done, std::vector<int>(tasks, 1));
      pool.for_shares(tasks, body);
      EXPECT_EQ(done, std::vector<int>(tasks, 2));
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
      pool.for_shares(done.size(), [&](std::size_t task, unsigned) { ++done[task]; });
    }
    EXPECT_EQ(done, std::vector<int>(3, 2 * kRounds));
  }
}

TEST(ThreadPoolTest, AThreadThatIsDoneTakesFromTheEndOfAnothersShare) {
  ThreadPool pool(2);
  std::atomic<bool> begun{false};
  std::atomic<int> left{7};
  std::vector<std::size_t> order;  // of the tasks that the second thread does
  pool.for_shares(8, [&](std::size_t task, unsigned thread) {
    if (task == 0) {  // ends when the other thread has done all others
      EXPECT_EQ(thread, 0u);
      begun = true;
      begun.notify_one();
      for (int now; (now = left.load()) > 0;) left.wait(now);
      return;
    }
    EXPECT_EQ(thread, 1u);
    begun.wait(false);
    order.push_back(task);
    if (--left == 0) left.notify_one();
  });
  EXPECT_EQ(order, (std::vector<std::size_t>{4, 5, 6, 7, 3, 2, 1}));
}

// Who waits long sleeps: the second thread before a loop, the caller before a loop's end.
TEST(ThreadPoolTest, ThreadsThatSleptComeBack) {
  ThreadPool pool(2);
  const auto pass_time = [] {  // more than threads look before they sleep
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
  };
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> inside{0};
    pool.for_each(2, [&](std::size_t, unsigned thread) {
      if (++inside == 2) inside.notify_one();
      inside.wait(1);
      if (thread == 1) pass_time();
    });
    EXPECT_EQ(inside, 2);
    pass_time();
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
