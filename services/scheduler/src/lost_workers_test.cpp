#include "lost_workers.hpp"

#include <gmock/gmock.h>

namespace conclave::scheduler {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr Time kNow{std::chrono::hours(1)};

TEST(LostWorkersTest, BelievesWhatLasts) {
  LostWorkers lost(milliseconds(500));

  lost.observe("r", {"w1"}, kNow);
  EXPECT_THAT(lost.lost(4, kNow + milliseconds(499)), IsEmpty());
  lost.observe("r", {"w1"}, kNow + milliseconds(400));
  EXPECT_THAT(lost.lost(4, kNow + milliseconds(500)), ElementsAre("w1"));

  lost.observe("r", {}, kNow + milliseconds(600));
  EXPECT_THAT(lost.lost(4, kNow + milliseconds(600)), IsEmpty());
  lost.observe("r", {"w1"}, kNow + milliseconds(700));
  EXPECT_THAT(lost.lost(4, kNow + milliseconds(1100)), IsEmpty());
}

TEST(LostWorkersTest, OneRouterAgainstOthersUnseatsNobody) {
  LostWorkers lost(milliseconds(0));
  lost.observe("r1", {"w1"}, kNow);
  lost.observe("r2", {}, kNow);
  EXPECT_THAT(lost.lost(4, kNow), IsEmpty());
  lost.observe("r3", {"w1", "w2"}, kNow);
  EXPECT_THAT(lost.lost(4, kNow), ElementsAre("w1"));
  lost.forget("r3");
  EXPECT_THAT(lost.lost(4, kNow), IsEmpty());
}

TEST(LostWorkersTest, ARouterWithoutANetworkUnseatsNobody) {
  LostWorkers lost(milliseconds(0));
  lost.observe("r", {"w1", "w2"}, kNow);
  EXPECT_THAT(lost.lost(4, kNow), ElementsAre("w1", "w2"));
  EXPECT_THAT(lost.lost(3, kNow), IsEmpty());
  EXPECT_THAT(lost.lost(1, kNow), IsEmpty());
}

}  // namespace
}  // namespace conclave::scheduler
