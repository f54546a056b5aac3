#include "conclave/fleet/scheduler_choice.hpp"

#include <gtest/gtest.h>

namespace conclave::fleet {
namespace {

using Time = SchedulerChoice::Time;
using std::chrono::seconds;

constexpr Time kNow{std::chrono::hours(1)};

wire::ReportReply leads(std::uint64_t term) {
  wire::ReportReply reply;
  reply.term = term;
  return reply;
}

wire::ReportReply stands_by(const std::string& leader, std::uint64_t term) {
  wire::ReportReply reply = leads(term);
  reply.leader = leader;
  return reply;
}

TEST(SchedulerChoiceTest, TakesTheWordOfTheOnlyOne) {
  SchedulerChoice choice({"a"});

  EXPECT_TRUE(choice.answered(0, leads(0), kNow));
  EXPECT_TRUE(choice.is_led());
  EXPECT_EQ(choice.probe(kNow), std::nullopt);  // there is nobody else
  choice.failed(0);
  EXPECT_EQ(choice.current(), 0u);
  EXPECT_FALSE(choice.is_led());
}

TEST(SchedulerChoiceTest, FollowsWhomAStandbyNames) {
  SchedulerChoice choice({"a", "b", "c"});

  EXPECT_FALSE(choice.answered(0, stands_by("c", 4), kNow));
  EXPECT_EQ(choice.address(choice.current()), "c");
  EXPECT_TRUE(choice.answered(2, leads(4), kNow));
  EXPECT_EQ(choice.term(), 4u);
}

TEST(SchedulerChoiceTest, FollowsOneThatNobodyToldItOfAndKeepsOneSuch) {
  SchedulerChoice choice({"a", "b"});

  EXPECT_FALSE(choice.answered(0, stands_by("d", 4), kNow));
  EXPECT_EQ(choice.address(choice.current()), "d");
  choice.failed(2);
  EXPECT_EQ(choice.current(), 0u);
  EXPECT_FALSE(choice.answered(0, stands_by("e", 5), kNow));
  EXPECT_EQ(choice.address(choice.current()), "e");
  EXPECT_EQ(choice.size(), 3u);
}

TEST(SchedulerChoiceTest, TriesEachOnceAndThenWaits) {
  SchedulerChoice choice({"a", "b"});
  ASSERT_TRUE(choice.answered(0, leads(1), kNow));

  choice.failed(0);
  EXPECT_EQ(choice.current(), 1u);
  EXPECT_TRUE(choice.may_try_at_once());
  EXPECT_FALSE(choice.answered(1, stands_by("a", 1), kNow));  // it has not heard of its end
  EXPECT_EQ(choice.current(), 0u);
  EXPECT_FALSE(choice.may_try_at_once());
  choice.begin_round();
  EXPECT_TRUE(choice.may_try_at_once());
}

TEST(SchedulerChoiceTest, IgnoresALeaderThatWasReplaced) {
  SchedulerChoice choice({"a", "b"});
  ASSERT_TRUE(choice.answered(0, leads(4), kNow));
  choice.failed(0);
  ASSERT_TRUE(choice.answered(1, leads(5), kNow));
  choice.failed(1);

  EXPECT_FALSE(choice.answered(0, leads(4), kNow + seconds(1)));
  EXPECT_EQ(choice.current(), 1u);
  choice.failed(1);
  EXPECT_TRUE(choice.answered(0, leads(4), kNow + SchedulerChoice::kTermMemory));
  EXPECT_TRUE(choice.answered(0, leads(0), kNow + SchedulerChoice::kTermMemory));
}

TEST(SchedulerChoiceTest, HearsInPassingThatAnotherLeads) {
  SchedulerChoice choice({"a", "b"});
  ASSERT_TRUE(choice.answered(0, leads(4), kNow));

  EXPECT_EQ(choice.probe(kNow), 1u);
  EXPECT_EQ(choice.probe(kNow + seconds(1)), std::nullopt);
  EXPECT_FALSE(choice.answered(1, stands_by("a", 4), kNow));
  EXPECT_EQ(choice.current(), 0u);
  EXPECT_TRUE(choice.is_led());
  EXPECT_EQ(choice.probe(kNow + SchedulerChoice::kProbe), 1u);
  EXPECT_TRUE(choice.answered(1, leads(5), kNow));
  EXPECT_EQ(choice.current(), 1u);
  EXPECT_FALSE(choice.answered(0, leads(4), kNow));  // an answer that was on its way
  EXPECT_EQ(choice.current(), 1u);
}

// It may be cut off from the registry, and lead on for those who have not heard.
TEST(SchedulerChoiceTest, TellsTheFormerLeaderThatItWasReplaced) {
  SchedulerChoice choice({"a", "b", "c"});
  ASSERT_TRUE(choice.answered(0, leads(4), kNow));
  EXPECT_TRUE(choice.probe(kNow));
  choice.failed(0);
  ASSERT_TRUE(choice.answered(1, leads(5), kNow));

  for (int i = 0; i < SchedulerChoice::kFarewells; ++i) EXPECT_EQ(choice.probe(kNow), 0u);
  EXPECT_EQ(choice.probe(kNow), std::nullopt);
  EXPECT_EQ(choice.reported_term(kNow), 5u);
  EXPECT_EQ(choice.reported_term(kNow + SchedulerChoice::kTermMemory), 0u);
}

TEST(SchedulerChoiceTest, TakesWhoeverCanBeReachedWhileNobodyLeads) {
  SchedulerChoice choice({"a", "b"});

  choice.failed(0);
  choice.reachable(0);
  EXPECT_EQ(choice.current(), 0u);
  ASSERT_TRUE(choice.answered(0, leads(1), kNow));
  choice.reachable(1);
  EXPECT_EQ(choice.current(), 0u);
}

}  // namespace
}  // namespace conclave::fleet
