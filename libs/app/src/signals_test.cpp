#include "conclave/app/signals.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <utility>

namespace conclave::app {
namespace {

TEST(SignalsTest, TheFirstSignalEndsTheWait) {
  for (const int number : {SIGTERM, SIGINT}) {
    Signals signals = Signals::install().value();
    EXPECT_FALSE(signals.is_stop_requested());
    std::jthread sender([&] { ::kill(::getpid(), number); });
    EXPECT_EQ(signals.wait_for_stop(), number);
    EXPECT_TRUE(signals.is_stop_requested());
    EXPECT_EQ(signals.wait_for_stop(), number) << "and every wait after it";
  }
}

TEST(SignalsTest, ARequestEndsTheWaitWithoutASignal) {
  Signals signals = Signals::install().value();
  std::jthread asker([&] { signals.request_stop(); });
  EXPECT_EQ(signals.wait_for_stop(), 0);
  EXPECT_TRUE(signals.is_stop_requested());
}

TEST(SignalsTest, ASignalBeforeTheWaitIsNotLost) {
  Signals signals = Signals::install().value();
  ::raise(SIGTERM);
  EXPECT_EQ(signals.wait_for_stop(), SIGTERM);
}

TEST(SignalsTest, WorksAfterAMove) {
  Signals first = Signals::install().value();
  Signals second = std::move(first);
  ::raise(SIGINT);
  EXPECT_EQ(second.wait_for_stop(), SIGINT);
}

TEST(SignalsTest, BelongsToOneObjectAtATime) {
  {
    Signals signals = Signals::install().value();
    const auto again = Signals::install();
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code, base::ErrorCode::kFailedPrecondition);
  }
  EXPECT_TRUE(Signals::install().has_value());
}

TEST(SignalsTest, PutsBackTheHandlersThatWereThere) {
  std::signal(SIGTERM, SIG_IGN);
  { Signals signals = Signals::install().value(); }
  EXPECT_EQ(std::signal(SIGTERM, SIG_DFL), SIG_IGN);
}

TEST(SignalsDeathTest, ASecondSignalExitsAtOnce) {
  EXPECT_EXIT(
      {
        Signals signals = Signals::install().value();
        ::raise(SIGINT);
        ::raise(SIGTERM);
      },
      testing::ExitedWithCode(128 + SIGTERM), "");
}

}  // namespace
}  // namespace conclave::app
