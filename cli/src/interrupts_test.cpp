#include "interrupts.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

namespace conclave::cli {
namespace {

template <class Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(InterruptsTest, AnInterruptAsksTheWorkToStop) {
  std::atomic<int> idle = 0;
  Interrupts interrupts([&] { ++idle; });
  const std::stop_token work = interrupts.begin();
  EXPECT_FALSE(work.stop_requested());
  ::kill(::getpid(), SIGINT);
  EXPECT_TRUE(eventually([&] { return work.stop_requested(); }));
  EXPECT_EQ(idle, 0);
  ::kill(::getpid(), SIGINT);
  EXPECT_TRUE(eventually([&] { return idle == 1; })) << "work that does not stop";
}

TEST(InterruptsTest, WithoutWorkAnInterruptIsForTheOwner) {
  std::atomic<int> idle = 0;
  Interrupts interrupts([&] { ++idle; });
  const std::stop_token work = interrupts.begin();
  interrupts.done();
  ::kill(::getpid(), SIGINT);
  EXPECT_TRUE(eventually([&] { return idle == 1; }));
  EXPECT_FALSE(work.stop_requested());
}

TEST(InterruptsTest, EndsWithoutAnInterruptAndLeavesSignalsAsTheyWere) {
  std::atomic<int> idle = 0;
  {
    const Interrupts interrupts([&] { ++idle; });
  }
  EXPECT_EQ(idle, 0);
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
  EXPECT_FALSE(sigismember(&now, SIGINT));
}

}  // namespace
}  // namespace conclave::cli
