#include "conclave/devices/priority.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace conclave::devices {
namespace {

int nice_of_this_thread() { return ::getpriority(PRIO_PROCESS, static_cast<id_t>(::gettid())); }

TEST(PriorityTest, IsThatOfOneThreadAndOfThoseThatItStarts) {
  const int before = nice_of_this_thread();
  int lowered = -1;
  int inherited = -1;
  std::thread([&] {
    ASSERT_TRUE(lower_this_thread(3));
    lowered = nice_of_this_thread();
    std::thread([&] { inherited = nice_of_this_thread(); }).join();
  }).join();

  EXPECT_EQ(lowered, std::min(before + 3, 19));
  EXPECT_EQ(inherited, lowered);
  EXPECT_EQ(nice_of_this_thread(), before);
}

TEST(PriorityTest, ZeroChangesNothing) {
  const int before = nice_of_this_thread();
  EXPECT_TRUE(lower_this_thread(0));
  EXPECT_EQ(nice_of_this_thread(), before);
}

TEST(PriorityTest, WakingWithoutPreemptingIsForOneThreadAndThoseThatItStarts) {
  const int before = ::sched_getscheduler(0);
  int own = -1;
  int inherited = -1;
  std::thread([&] {
    ASSERT_TRUE(wake_without_preempting());
    own = ::sched_getscheduler(0);
    std::thread([&] { inherited = ::sched_getscheduler(0); }).join();
  }).join();

  EXPECT_EQ(own, SCHED_BATCH);
  EXPECT_EQ(inherited, SCHED_BATCH);
  EXPECT_EQ(::sched_getscheduler(0), before);
}

}  // namespace
}  // namespace conclave::devices
