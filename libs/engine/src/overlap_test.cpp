// When steps go in two micro-batches: as measured, and seldom measured anew.
#include "conclave/engine/overlap.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <set>

namespace conclave::engine {
namespace {

using std::chrono::microseconds;

struct OverlapTest : testing::Test {
  /// Steps of `rows` rows that take what `cost` says; returns how many were in two micro-batches.
  int run(int steps, std::size_t rows, const std::function<microseconds(std::size_t)>& cost) {
    int split = 0;
    for (int i = 0; i < steps; ++i) {
      const std::size_t batches = overlap.micro_batches(rows, true);
      if (batches == 2) ++split;
      overlap.took(cost(batches));
    }
    return split;
  }
  static microseconds gains(std::size_t batches) { return microseconds(batches == 2 ? 700 : 1000); }
  static microseconds loses(std::size_t batches) {
    return microseconds(batches == 2 ? 1300 : 1000);
  }

  Overlap overlap;
};

TEST_F(OverlapTest, HasOneMicroBatchUntilItIsToldHowLongStepsTake) {
  for (int i = 0; i < 100; ++i) EXPECT_EQ(overlap.micro_batches(32, true), 1u);
}

TEST_F(OverlapTest, TakesTwoWhereTheyAreFaster) { EXPECT_GE(run(1000, 32, gains), 970); }

TEST_F(OverlapTest, TriesSeldomWhereTheyAreNot) {
  EXPECT_EQ(run(5, 32, loses), 2);
  EXPECT_LE(run(4000, 32, loses), 20);
}

TEST_F(OverlapTest, DoesNotTakeTwoForALittle) {
  EXPECT_LE(
      run(1000, 32, [](std::size_t batches) { return microseconds(batches == 2 ? 970 : 1000); }),
      20);
}

TEST_F(OverlapTest, FindsOutThatThingsHaveChanged) {
  const int longest = static_cast<int>(Overlap::kRestMax) + 4;
  run(2 * longest, 32, gains);
  EXPECT_EQ(run(10, 32, gains), 10);
  run(longest, 32, loses);
  EXPECT_LE(run(100, 32, loses), 4);
  run(longest, 32, gains);
  EXPECT_GE(run(100, 32, gains), 96);
}

TEST_F(OverlapTest, OneDisturbedStepDoesNotDecide) {
  for (int disturbed = 0; disturbed < 5; ++disturbed) {
    overlap = {};
    int step = 0;
    const auto cost = [&](std::size_t batches) {
      return step++ == disturbed ? microseconds(50'000) : gains(batches);
    };
    EXPECT_GE(run(65, 32, cost), 60) << disturbed;
  }
}

TEST_F(OverlapTest, JudgesFewAndManyRowsApart) {
  run(100, 32, loses);
  run(100, 512, gains);
  EXPECT_EQ(run(5, 32, loses), 0);
  EXPECT_EQ(run(5, 512, gains), 5);
}

TEST_F(OverlapTest, ComparesOnlyStepsThatAreAlike) {
  run(1, 16, gains);
  EXPECT_EQ(overlap.micro_batches(16, true), 1u);
  overlap.took(microseconds(1000));
  // Of the same size, but with more rows, or rows that pass some layers only: not in the trial.
  EXPECT_EQ(overlap.micro_batches(28, true), 1u);
  overlap.took(microseconds(1));
  EXPECT_EQ(overlap.micro_batches(16, false), 1u);
  overlap.took(microseconds(1));
  for (const std::size_t expected : {2u, 2u, 1u}) {
    EXPECT_EQ(overlap.micro_batches(16, true), expected);
    overlap.took(gains(expected));
  }
  EXPECT_EQ(overlap.micro_batches(16, true), 2u);
}

TEST_F(OverlapTest, GivesATrialUpThatFindsNothingAlike) {
  run(1, 17, gains);
  int split = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::size_t batches = overlap.micro_batches(i % 2 == 0 ? 16 : 31, i % 7 == 0);
    if (batches == 2) ++split;
    overlap.took(microseconds(1000));
  }
  EXPECT_LE(split, 100);
}

TEST_F(OverlapTest, DoesNotSplitASingleRow) { EXPECT_EQ(run(200, 1, gains), 0); }

}  // namespace
}  // namespace conclave::engine
