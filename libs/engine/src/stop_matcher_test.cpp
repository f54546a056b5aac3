#include "conclave/engine/stop_matcher.hpp"

#include <gmock/gmock.h>

#include <random>

#include "conclave/base/utf8.hpp"

namespace conclave::engine {
namespace {

using testing::ElementsAre;

// What each piece released, and what was held back at the end.
std::vector<std::string> pushed(StopMatcher& matcher, const std::vector<std::string>& pieces) {
  std::vector<std::string> out;
  for (const std::string& piece : pieces) out.push_back(matcher.push(piece));
  return out;
}

TEST(StopMatcherTest, WithoutStringsTextPasses) {
  StopMatcher matcher({}, false);
  EXPECT_THAT(pushed(matcher, {"a", "", "bc"}), ElementsAre("a", "", "bc"));
  EXPECT_EQ(matcher.flush(), "");
  EXPECT_FALSE(matcher.matched());
}

TEST(StopMatcherTest, HoldsBackOnlyWhatCouldBecomeAStop) {
  const std::vector<std::string> stops{"END"};
  StopMatcher matcher(stops, false);
  EXPECT_THAT(pushed(matcher, {"an E", "N", "ENx", "EN"}), ElementsAre("an ", "", "ENENx", ""));
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.flush(), "EN");
}

TEST(StopMatcherTest, AStopOverSeveralPiecesIsLeftOutWithAllThatFollows) {
  const std::vector<std::string> stops{"END", "\n\n"};
  StopMatcher matcher(stops, false);
  EXPECT_THAT(pushed(matcher, {"one\n", "\ntwo", "three"}), ElementsAre("one", "", ""));
  EXPECT_EQ(matcher.matched(), 1u);
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcherTest, IncludedStopsEndTheTextAndHoldNothingBack) {
  const std::vector<std::string> stops{"END"};
  StopMatcher matcher(stops, true);
  EXPECT_THAT(pushed(matcher, {"an E", "N", "D of", " it"}), ElementsAre("an E", "N", "D", ""));
  EXPECT_EQ(matcher.matched(), 0u);
}

TEST(StopMatcherTest, TheFirstToEndWinsAndOfThoseTheLongest) {
  const std::vector<std::string> stops{"bcd", "c", "abc"};
  StopMatcher matcher(stops, false);
  EXPECT_EQ(matcher.push("xabcd"), "x");
  EXPECT_EQ(matcher.matched(), 2u);
}

TEST(StopMatcherTest, CharactersOfSeveralBytesStayWhole) {
  const std::vector<std::string> stops{"\u00e9t\u00e9", "\u20ac"};
  StopMatcher matcher(stops, false);
  // U+00E8 and U+20AD share their first bytes with the stops.
  EXPECT_THAT(pushed(matcher, {"\u00e8", "\u20ad", "\u00e9", "t", "t", "\u00e9t", "\u00e9!"}),
              ElementsAre("\u00e8", "\u20ad", "", "", "\u00e9tt", "", ""));
  EXPECT_EQ(matcher.matched(), 0u);
}

// A plain search of the whole text: the end that comes first, the longest of those that end there.
std::string until_stop(const std::string& text, const std::vector<std::string>& stops,
                       bool include) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return text.substr(0, include ? end : end - longest);
  }
  return text;
}

TEST(StopMatcherTest, PiecesDoNotMatter) {
  std::mt19937 random(1);
  const auto word = [&](std::size_t length) {
    std::string text;
    for (std::size_t i = 0; i < length; ++i) {
      text += std::vector<std::string>{"a", "b", "\u00e9"}[random() % 3];
    }
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::string> stops;
    for (std::size_t i = 0; i < 1 + random() % 3; ++i) stops.push_back(word(1 + random() % 5));
    const bool include = round % 2 == 0;
    StopMatcher matcher(stops, include);
    std::string whole, seen;
    for (int i = 0; i < 12; ++i) {
      const std::string piece = word(random() % 4);
      whole += piece;
      const std::string out = matcher.push(piece);
      ASSERT_TRUE(base::utf8::valid(out));
      seen += out;
    }
    seen += matcher.flush();
    ASSERT_EQ(seen, until_stop(whole, stops, include)) << whole;
    stopped += matcher.matched() ? 1 : 0;
  }
  EXPECT_GT(stopped, 500);
  EXPECT_LT(stopped, 1900);
}

}  // namespace
}  // namespace conclave::engine
