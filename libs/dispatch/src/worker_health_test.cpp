#include "conclave/dispatch/worker_health.hpp"

#include <gtest/gtest.h>

namespace conclave::dispatch {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using TimePoint = WorkerHealth::TimePoint;

const TimePoint kStart = TimePoint(std::chrono::hours(1));

struct WorkerHealthTest : testing::Test {
  WorkerHealthTest() { health.link_up(now); }
  void answer(microseconds took = microseconds(100), std::size_t units = 10) {
    health.answered({.units = units, .pairs = 2, .took = took}, now);
  }

  TimePoint now = kStart;
  WorkerHealth health{HealthOptions{}};
};

TEST_F(WorkerHealthTest, WithoutALinkItIsDead) {
  EXPECT_EQ(WorkerHealth(HealthOptions{}).standing(now), Standing::kDead);
  EXPECT_EQ(health.standing(now), Standing::kWell);
  health.link_down();
  EXPECT_EQ(health.standing(now), Standing::kDead);
}

TEST_F(WorkerHealthTest, AMissMakesItSuspectAndAnyAnswerClearsIt) {
  health.sent(10);
  health.missed(now);
  EXPECT_EQ(health.standing(now), Standing::kSuspect);
  now += milliseconds(5);
  answer();
  EXPECT_EQ(health.standing(now), Standing::kWell);
  EXPECT_EQ(health.outstanding(), 0u);
}

TEST_F(WorkerHealthTest, MissesInARowOrSilenceMakeItDead) {
  health.sent(30);
  for (int i = 0; i < 3; ++i) health.missed(now);
  EXPECT_EQ(health.standing(now), Standing::kDead);
  answer();
  health.missed(now);
  EXPECT_EQ(health.standing(now), Standing::kSuspect);
  EXPECT_EQ(health.standing(now + seconds(1)), Standing::kDead);
}

TEST_F(WorkerHealthTest, WhoOwesAnAnswerIsNotTriedBeforeItComes) {
  health.sent(10);
  health.missed(now);
  EXPECT_EQ(health.standing(now + std::chrono::hours(1)), Standing::kDead);
  health.ended(10);  // it will never come
  EXPECT_EQ(health.standing(now + milliseconds(99)), Standing::kSuspect);
  EXPECT_EQ(health.standing(now + milliseconds(100)), Standing::kWell);
}

TEST_F(WorkerHealthTest, ItIsTriedLessAndLessOften) {
  for (int i = 0; i < 40; ++i) health.missed(now);
  EXPECT_EQ(health.standing(now + milliseconds(4999)), Standing::kDead);
  EXPECT_EQ(health.standing(now + seconds(5)), Standing::kWell);
}

TEST_F(WorkerHealthTest, ANewLinkClearsIt) {
  for (int i = 0; i < 5; ++i) health.missed(now);
  health.refused(now);
  health.link_down();
  health.link_up(now);
  EXPECT_EQ(health.standing(now), Standing::kWell);
  EXPECT_FALSE(health.pauses(now));
}

TEST_F(WorkerHealthTest, APauseEnds) {
  health.refused(now);
  EXPECT_TRUE(health.pauses(now + milliseconds(19)));
  EXPECT_FALSE(health.pauses(now + milliseconds(20)));
}

TEST_F(WorkerHealthTest, StartsSlowlyAndAgainAfterASuspicion) {
  EXPECT_DOUBLE_EQ(health.reluctance(now), 8.0);
  EXPECT_NEAR(health.reluctance(now + milliseconds(500)), 4.5, 0.01);
  now += seconds(1);
  EXPECT_DOUBLE_EQ(health.reluctance(now), 1.0);
  answer();
  EXPECT_DOUBLE_EQ(health.reluctance(now), 1.0);
  health.missed(now);
  answer();
  EXPECT_DOUBLE_EQ(health.reluctance(now), 8.0);
}

TEST_F(WorkerHealthTest, TellsComputingFromTheWay) {
  health.answered({.units = 10,
                   .pairs = 2,
                   .took = microseconds(300),
                   .queue = microseconds(50),
                   .compute = microseconds(200),
                   .batch_pairs = 4},
                  now);
  EXPECT_DOUBLE_EQ(health.us_per_unit(now), 10.0);  // half of the batch was somebody else's
  EXPECT_DOUBLE_EQ(health.overhead_us(now), 100.0);
}

TEST_F(WorkerHealthTest, BelievesNoWorkerMoreThanItSaw) {
  health.answered({.units = 10,
                   .pairs = 2,
                   .took = microseconds(100),
                   .queue = seconds(4000),
                   .compute = seconds(4000)},
                  now);
  EXPECT_LE(health.us_per_unit(now), 10.0);
  EXPECT_GE(health.overhead_us(now), 0.0);
  EXPECT_LE(health.overhead_us(now), 100.0);
}

TEST_F(WorkerHealthTest, FollowsWhatItMeasures) {
  for (int i = 0; i < 10; ++i) answer(microseconds(100));
  EXPECT_NEAR(health.us_per_unit(now), 10.0, 1e-9);
  for (int i = 0; i < 40; ++i) answer(microseconds(1000));
  EXPECT_NEAR(health.us_per_unit(now), 100.0, 1.0);
}

TEST_F(WorkerHealthTest, ForgetsWhatIsLongAgo) {
  answer(microseconds(1000));
  EXPECT_NEAR(health.us_per_unit(now + seconds(1)), 100.0, 1e-9);
  EXPECT_NEAR(health.us_per_unit(now + seconds(3)), 25.0, 1e-9);
  EXPECT_LT(health.us_per_unit(now + seconds(60)), 1e-9);
}

TEST_F(WorkerHealthTest, OwesNeverLessThanNothing) {
  health.sent(5);
  health.ended(7);
  EXPECT_EQ(health.outstanding(), 0u);
}

}  // namespace
}  // namespace conclave::dispatch
