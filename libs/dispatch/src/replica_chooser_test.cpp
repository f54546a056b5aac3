#include "conclave/dispatch/replica_chooser.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace conclave::dispatch {
namespace {

Candidate busy(std::size_t units, double us_per_unit = 1.0) {
  return {.units_ahead = units, .us_per_unit = us_per_unit};
}

std::size_t choose(const std::vector<Candidate>& candidates, std::size_t units = 8) {
  return ReplicaChooser(1).choose(candidates, units);
}

TEST(ReplicaChooserTest, TakesTheOneThatIsDoneFirst) {
  EXPECT_EQ(choose({busy(50), busy(10), busy(30)}), 1u);
  EXPECT_EQ(choose({busy(10, 9.0), busy(50, 1.0)}), 1u);
  Candidate far = busy(0);
  far.overhead_us = 500.0;
  EXPECT_EQ(choose({far, busy(100)}), 1u);
}

TEST(ReplicaChooserTest, AnythingWellIsBetterThanASuspect) {
  Candidate suspect;
  suspect.standing = Standing::kSuspect;
  Candidate dead;
  dead.standing = Standing::kDead;
  EXPECT_EQ(choose({dead, suspect, busy(1'000'000)}), 2u);
  EXPECT_EQ(choose({dead, suspect}), 1u);
  EXPECT_EQ(choose({dead}), 0u);
}

TEST(ReplicaChooserTest, PrefersOneThatGetsACallAnyway) {
  Candidate idle = busy(0, 1.0);
  idle.overhead_us = 100.0;
  Candidate used = busy(20, 1.0);
  used.overhead_us = 100.0;
  used.used = true;
  EXPECT_EQ(choose({idle, used}), 1u);
  used.units_ahead = 200;  // but not at any price
  EXPECT_EQ(choose({idle, used}), 0u);

  Candidate equal = busy(0);
  equal.used = true;
  EXPECT_EQ(choose({busy(0), equal}), 1u);
}

TEST(ReplicaChooserTest, ANewcomerGetsLess) {
  Candidate fresh = busy(0);
  fresh.reluctance = 8.0;
  EXPECT_EQ(choose({fresh, busy(40)}), 1u);
  EXPECT_EQ(choose({fresh, busy(80)}), 0u);
}

TEST(ReplicaChooserTest, OfManyItComparesTwoAndAllGetTheirTurn) {
  ReplicaChooser chooser(7);
  std::vector<Candidate> candidates(16);
  candidates[3].standing = Standing::kDead;
  std::vector<int> taken(candidates.size());
  for (int i = 0; i < 3000; ++i) ++taken[chooser.choose(candidates, 8)];
  EXPECT_EQ(taken[3], 0);
  for (std::size_t i = 0; i < taken.size(); ++i) {
    if (i == 3) continue;
    EXPECT_GT(taken[i], 100) << i;
  }
}

TEST(ReplicaChooserTest, TwoChoicesKeepTheFullestNearTheMean) {
  ReplicaChooser chooser(7);
  std::vector<Candidate> candidates(16);
  for (int i = 0; i < 1600; ++i) ++candidates[chooser.choose(candidates, 1)].units_ahead;
  const auto fullest = std::ranges::max_element(candidates, {}, &Candidate::units_ahead);
  EXPECT_LE(fullest->units_ahead, 106u);  // at random it would be about 125
}

TEST(ReplicaChooserTest, TheSameSeedDrawsTheSame) {
  const std::vector<Candidate> candidates(9);
  ReplicaChooser one(5);
  ReplicaChooser other(5);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(one.choose(candidates, 8), other.choose(candidates, 8));
}

}  // namespace
}  // namespace conclave::dispatch
