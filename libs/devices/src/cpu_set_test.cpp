#include "conclave/devices/cpu_set.hpp"

#include <gmock/gmock.h>

namespace conclave::devices {
namespace {

using testing::ElementsAre;

TEST(CpuSetTest, ReadsNumbersAndRanges) {
  EXPECT_THAT(CpuSet::parse("0")->cpus(), ElementsAre(0));
  EXPECT_THAT(CpuSet::parse("0-3,6")->cpus(), ElementsAre(0, 1, 2, 3, 6));
  EXPECT_THAT(CpuSet::parse("6,2-3,3-4,2")->cpus(), ElementsAre(2, 3, 4, 6));
  EXPECT_EQ(CpuSet::parse("0-8191")->size(), 8192u);
}

TEST(CpuSetTest, PrintsWhatItReads) {
  for (const char* text : {"0", "0-3,6", "1,3,5", "0-1,8190-8191"}) {
    EXPECT_EQ(CpuSet::parse(text)->to_string(), text);
  }
  EXPECT_EQ(CpuSet().to_string(), "");
  EXPECT_EQ(CpuSet({3, 1, 2, 1}).to_string(), "1-3");
}

TEST(CpuSetTest, RefusesAnythingElse) {
  for (const char* text : {"", ",", "0,", ",0", "-", "1-", "-1", "3-1", "0-1-2", "a", "0x1", " 0",
                           "0 ", "1.5", "8192", "0-8192", "99999999999999999999", "0;1"}) {
    const auto set = CpuSet::parse(text);
    ASSERT_FALSE(set.has_value()) << text;
    EXPECT_EQ(set.error().code, base::ErrorCode::kInvalidArgument);
  }
}

TEST(CpuSetTest, AnswersMembershipAndDifference) {
  const CpuSet set({0, 2, 5});
  EXPECT_TRUE(set.contains(2));
  EXPECT_FALSE(set.contains(1));
  EXPECT_EQ(set.without(CpuSet({2, 9})), CpuSet({0, 5}));
  EXPECT_TRUE(set.without(set).empty());
}

}  // namespace
}  // namespace conclave::devices
