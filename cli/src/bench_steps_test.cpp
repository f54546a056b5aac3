#include "bench_steps.hpp"

#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

using namespace std::chrono_literals;

StepTimes::Time at(std::chrono::milliseconds since) { return StepTimes::Time(since); }

TEST(StepTimesTest, OneSequenceIsItsPromptAndItsDecoding) {
  StepTimes times(1, at(0ms));
  times.add(0, false, at(100ms));
  times.add(0, false, at(150ms));
  times.add(0, true, at(200ms));
  EXPECT_DOUBLE_EQ(times.first_token_s(), 0.1);
  EXPECT_DOUBLE_EQ(times.decode_s(), 0.1);
  const BatchSpeed speed = times.speed(10);
  EXPECT_DOUBLE_EQ(speed.prompt, 100.0);
  EXPECT_DOUBLE_EQ(speed.decode, 20.0);
  EXPECT_DOUBLE_EQ(speed.total, 65.0);
}

TEST(StepTimesTest, DecodingCountsWhileAllSequencesDecode) {
  StepTimes times(2, at(0ms));
  times.add(0, false, at(100ms));
  times.add(0, false, at(200ms));  // the other one's prompt is in this step,
  times.add(1, false, at(200ms));  // and ends with it
  times.add(0, false, at(250ms));
  times.add(1, false, at(250ms));
  times.add(0, true, at(300ms));
  times.add(1, false, at(300ms));
  times.add(1, true, at(900ms));  // alone
  const BatchSpeed speed = times.speed(100);
  EXPECT_DOUBLE_EQ(speed.prompt, 1000.0);
  EXPECT_DOUBLE_EQ(speed.decode, 40.0);
  EXPECT_NEAR(speed.total, 208.0 / 0.9, 1e-9);
}

TEST(StepTimesTest, WithoutATimeTogetherThereIsNoDecoding) {
  StepTimes times(2, at(0ms));
  times.add(0, true, at(100ms));
  times.add(1, true, at(200ms));
  const BatchSpeed speed = times.speed(10);
  EXPECT_DOUBLE_EQ(speed.prompt, 100.0);
  EXPECT_DOUBLE_EQ(speed.decode, 0.0);
  EXPECT_DOUBLE_EQ(speed.total, 110.0);
}

TEST(StepTimesTest, ARunWithoutTokensHasNoSpeed) {
  const StepTimes times(3, at(0ms));
  EXPECT_DOUBLE_EQ(times.speed(10).total, 0.0);
  EXPECT_DOUBLE_EQ(times.decode_s(), 0.0);
}

}  // namespace
}  // namespace conclave::cli
