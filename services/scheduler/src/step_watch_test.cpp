#include "step_watch.hpp"

#include <gmock/gmock.h>

namespace conclave::scheduler {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr Time kNow{std::chrono::hours(1)};

wire::ExpertBits bits(std::initializer_list<std::uint32_t> experts) {
  wire::ExpertBits bits(1, 4);
  for (const std::uint32_t expert : experts) bits.set(0, expert);
  return bits;
}

std::vector<placement::PlanWorker> workers(std::initializer_list<const char*> names) {
  std::vector<placement::PlanWorker> workers;
  for (const char* name : names) workers.push_back({name});
  return workers;
}

placement::Pin never(std::uint32_t expert, std::vector<std::string> names) {
  return {0, expert, placement::Pin::Kind::kNever, "", std::move(names)};
}

TEST(StepWatchTest, ALoadThatDoesNotMoveFails) {
  StepWatch watch(milliseconds(1000));

  EXPECT_FALSE(watch.observe("w", 1, bits({0, 1}), {}, kNow));
  EXPECT_FALSE(watch.observe("w", 1, bits({1}), {}, kNow + milliseconds(900)));  // one is ready
  EXPECT_FALSE(watch.observe("w", 1, bits({1}), {}, kNow + milliseconds(1899)));
  EXPECT_TRUE(watch.observe("w", 1, bits({1}), {}, kNow + milliseconds(1900)));
  EXPECT_FALSE(watch.observe("w", 1, bits({1}), {}, kNow + milliseconds(2000)));  // said once

  EXPECT_THAT(watch.bars(workers({"v", "w"})), ElementsAre(never(1, {"w"})));
  EXPECT_THAT(watch.bars(workers({"v"})), IsEmpty());
}

TEST(StepWatchTest, WhatIsRefusedFailsAtOnce) {
  StepWatch watch(milliseconds(1000));

  EXPECT_TRUE(watch.observe("w", 1, bits({0, 2}), {{0, 2}, {7, 7}}, kNow));
  EXPECT_FALSE(watch.observe("w", 1, bits({0, 2}), {{0, 2}}, kNow));
  EXPECT_THAT(watch.bars(workers({"v", "w"})), ElementsAre(never(2, {"w"})));
}

TEST(StepWatchTest, WhereNobodyElseIsLeftEverybodyMayTryOn) {
  StepWatch watch(milliseconds(1000));
  ASSERT_TRUE(watch.observe("v", 1, bits({}), {{0, 2}}, kNow));
  ASSERT_TRUE(watch.observe("w", 1, bits({}), {{0, 2}}, kNow));
  EXPECT_THAT(watch.bars(workers({"v", "w"})), IsEmpty());
  EXPECT_THAT(watch.bars(workers({"v", "w", "x"})), ElementsAre(never(2, {"v", "w"})));
}

TEST(StepWatchTest, TrustsAWorkerThatWasStartedAgain) {
  StepWatch watch(milliseconds(1000));
  ASSERT_TRUE(watch.observe("w", 1, bits({}), {{0, 2}}, kNow));
  EXPECT_FALSE(watch.observe("w", 2, bits({}), {}, kNow));
  EXPECT_THAT(watch.bars(workers({"v", "w"})), IsEmpty());
}

TEST(StepWatchTest, AnIdleWorkerNeverFails) {
  StepWatch watch(milliseconds(1000));
  EXPECT_FALSE(watch.observe("w", 1, bits({}), {}, kNow));
  EXPECT_FALSE(watch.observe("w", 1, bits({}), {}, kNow + std::chrono::hours(1)));
  // Something to load that comes then has all of its time.
  EXPECT_FALSE(watch.observe("w", 1, bits({3}), {}, kNow + std::chrono::hours(1)));
}

}  // namespace
}  // namespace conclave::scheduler
