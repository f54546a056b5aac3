#include "leadership.hpp"

#include <gtest/gtest.h>

namespace conclave::scheduler {
namespace {

using Change = Leadership::Change;

const std::string kSelf = holder_name("a", 7, "tcp://a:1");
const std::string kOther = holder_name("b", 9, "tcp://b:2");

TEST(LeadershipTest, NamesALifeAndWhereItListens) { EXPECT_EQ(kSelf, "a/7@tcp://a:1"); }

TEST(LeadershipTest, TheOnlyOneLeadsWithoutALease) {
  Leadership only(kSelf, false);

  EXPECT_TRUE(only.leads());
  EXPECT_EQ(only.heard({kOther, 3, 900}), Change::kNone);  // its own former life
  EXPECT_TRUE(only.leads());
  EXPECT_EQ(only.token(), 0u);
  EXPECT_EQ(only.heard({kSelf, 4, 3000}), Change::kNone);
  EXPECT_EQ(only.token(), 4u);  // to keep what it must not forget
  EXPECT_EQ(only.term(), 0u);   // nodes need none
}

TEST(LeadershipTest, OneOfSeveralLeadsWhenItHasTheLease) {
  Leadership one(kSelf, true);

  EXPECT_FALSE(one.leads());
  EXPECT_EQ(one.heard({kOther, 3, 900}), Change::kFollowed);
  EXPECT_EQ(one.leader(), "tcp://b:2");
  EXPECT_EQ(one.term(), 3u);
  EXPECT_EQ(one.heard({kOther, 3, 400}), Change::kNone);
  EXPECT_EQ(one.heard({kSelf, 4, 3000}), Change::kBegan);
  EXPECT_TRUE(one.leads());
  EXPECT_EQ(one.leader(), "");
  EXPECT_EQ(one.term(), 4u);
  EXPECT_EQ(one.heard({kSelf, 4, 3000}), Change::kNone);
}

TEST(LeadershipTest, EndsWhenAnotherOneHasIt) {
  Leadership one(kSelf, true);
  ASSERT_EQ(one.heard({kSelf, 4, 3000}), Change::kBegan);

  EXPECT_EQ(one.heard({kOther, 5, 3000}), Change::kEnded);

  EXPECT_FALSE(one.leads());
  EXPECT_EQ(one.token(), 0u);
  EXPECT_EQ(one.term(), 5u);
  EXPECT_EQ(one.leader(), "tcp://b:2");
}

TEST(LeadershipTest, BeginsAnewIfSomebodyLedMeanwhile) {
  Leadership one(kSelf, true);
  ASSERT_EQ(one.heard({kSelf, 4, 3000}), Change::kBegan);

  EXPECT_EQ(one.heard({kSelf, 5, 3000}), Change::kNone);  // lapsed, and nobody took it
  EXPECT_EQ(one.heard({kSelf, 7, 3000}), Change::kBegan);
}

TEST(LeadershipTest, EndsWhenANodeHasFollowedALaterOne) {
  Leadership one(kSelf, true);
  EXPECT_EQ(one.outdone(9), Change::kNone);  // it does not lead
  ASSERT_EQ(one.heard({kSelf, 4, 3000}), Change::kBegan);

  EXPECT_EQ(one.outdone(4), Change::kNone);  // its own nodes say so
  EXPECT_EQ(one.outdone(5), Change::kEnded);

  EXPECT_FALSE(one.leads());
  EXPECT_EQ(one.token(), 0u);
  EXPECT_EQ(one.term(), 5u);
  EXPECT_EQ(one.leader(), "");  // nobody said so far
  EXPECT_EQ(one.heard({kSelf, 6, 3000}), Change::kBegan);

  Leadership only(kSelf, false);
  EXPECT_EQ(only.outdone(5), Change::kNone);
}

TEST(LeadershipTest, WhoResignedDoesNotBeginAgain) {
  Leadership one(kSelf, true);
  ASSERT_EQ(one.heard({kSelf, 4, 3000}), Change::kBegan);

  EXPECT_EQ(one.resign(), Change::kEnded);
  EXPECT_EQ(one.heard({kSelf, 4, 3000}), Change::kNone);  // an answer that was on its way
  EXPECT_FALSE(one.leads());
  EXPECT_EQ(one.resign(), Change::kNone);
}

}  // namespace
}  // namespace conclave::scheduler
