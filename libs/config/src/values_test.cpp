#include "conclave/config/values.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace conclave::config {
namespace {

TEST(RangeTest, TakesItsEndsAndNothingBeyond) {
  const Range<int> range{-2, 5};
  EXPECT_EQ(range.parse("-2"), -2);
  EXPECT_EQ(range.parse("5"), 5);
  EXPECT_EQ(range.parse("-3"), std::nullopt);
  EXPECT_EQ(range.parse("6"), std::nullopt);
  EXPECT_EQ(range.accepts(), "a number from -2 to 5");
}

TEST(RangeTest, TakesWholeTypesWithoutWrapping) {
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  const Range<std::uint64_t> range{0, kMost};
  EXPECT_EQ(range.parse("18446744073709551615"), kMost);
  EXPECT_EQ(range.parse("18446744073709551616"), std::nullopt);
  EXPECT_EQ(range.parse("-1"), std::nullopt);
  EXPECT_EQ(range.parse("0xff"), 255u);
}

TEST(RangeTest, RefusesWhatIsNotOneNumber) {
  const Range<double> range{0, 10};
  for (const char* text : {"", " ", "1x", "x", "1 2", "nan", "-nan", "inf", "--1", "1,5"}) {
    EXPECT_EQ(range.parse(text), std::nullopt) << text;
  }
  EXPECT_EQ(range.parse("1e-1"), 0.1);
  EXPECT_EQ((Range<int>{0, 10}.parse("1.5")), std::nullopt);
  EXPECT_EQ((Range<int>{0, 10}.parse("0x")), std::nullopt);
}

TEST(PrintTomlTest, PrintsNumbersThatReadBackExactly) {
  EXPECT_EQ(print_toml(7), "7");
  EXPECT_EQ(print_toml(std::int64_t{-7}), "-7");
  EXPECT_EQ(print_toml(~std::uint64_t{0}), "18446744073709551615");
  EXPECT_EQ(print_toml(0.1f), "0.1");
  EXPECT_EQ(print_toml(2.0), "2.0");
  EXPECT_EQ(print_toml(1e300), "1e+300");
}

TEST(PrintTomlTest, EscapesText) {
  EXPECT_EQ(print_toml(std::string_view("a\"b\\c\n")), R"("a\"b\\c\u000A")");
  EXPECT_EQ(print_toml(std::vector<std::string>{"a", "b"}), R"(["a", "b"])");
  EXPECT_EQ(print_toml(std::vector<std::string>{}), "[]");
}

TEST(SwitchTest, KnowsTheUsualWords) {
  for (const char* text : {"true", "1", "yes", "on"}) EXPECT_EQ(Switch::parse(text), true) << text;
  for (const char* text : {"false", "0", "no", "off"}) {
    EXPECT_EQ(Switch::parse(text), false) << text;
  }
  for (const char* text : {"", "TRUE", "2", "maybe"}) {
    EXPECT_EQ(Switch::parse(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace conclave::config
