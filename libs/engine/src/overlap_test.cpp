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
      const std::size_t batches = overlap.micro_batches(rows);
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
  for (int i = 0; i < 100; ++i) EXPECT_EQ(overlap.micro_batches(32), 1u);
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
  for (const auto& kind : {gains, loses}) {
    for (int disturbed = 0; disturbed < 5; ++disturbed) {
      overlap = {};
      int step = 0;
      const auto cost = [&](std::size_t batches) {
        return step++ == disturbed ? microseconds(50'000) : kind(batches);
      };
      run(9, 32, cost);  // two trials
      EXPECT_EQ(run(20, 32, cost), kind(2) < kind(1) ? 20 : 0) << disturbed;
    }
  }
}

TEST_F(OverlapTest, StepsThatGrowFavourNeither) {
  for (const double share : {0.9, 1.1}) {
    overlap = {};
    double us = 1000;
    const auto cost = [&](std::size_t batches) {
      us *= 1.03;
      return microseconds(static_cast<int>(batches == 2 ? share * us : us));
    };
    run(5, 32, cost);
    EXPECT_EQ(run(20, 32, cost), share < 1 ? 20 : 0);
  }
}

TEST_F(OverlapTest, AStepThatFailedSaysNothing) {
  run(1, 32, gains);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(overlap.micro_batches(32), 1u);
  run(4, 32, loses);
  EXPECT_EQ(run(20, 32, loses), 0);
}

TEST_F(OverlapTest, JudgesFewAndManyRowsApart) {
  run(100, 32, loses);
  run(100, 512, gains);
  EXPECT_EQ(run(5, 32, loses), 0);
  EXPECT_EQ(run(5, 512, gains), 5);
}

TEST_F(OverlapTest, ComparesOnlyStepsThatAreAlike) {
  run(2, 16, gains);
  EXPECT_EQ(overlap.micro_batches(28), 1u) << "as many as belong together, but not alike";
  overlap.took(microseconds(1));
  EXPECT_EQ(run(3, 16, gains), 2);
  EXPECT_EQ(overlap.micro_batches(16), 2u);
}

TEST_F(OverlapTest, GivesATrialUpThatFindsNothingAlike) {
  run(2, 16, gains);
  EXPECT_EQ(run(70, 31, gains), 0);
  EXPECT_LE(run(60, 16, gains), 2);
}

TEST_F(OverlapTest, DoesNotSplitASingleRow) { EXPECT_EQ(run(200, 1, gains), 0); }

}  // namespace
}  // namespace conclave::engine
