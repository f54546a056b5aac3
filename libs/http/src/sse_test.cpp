#include "conclave/http/sse.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace conclave::http {
namespace {

using Events = std::vector<SseEvent>;

Events parse(std::string_view stream) {
  SseParser parser;
  auto events = parser.push(stream);
  EXPECT_TRUE(events.has_value());
  return events ? *events : Events{};
}

TEST(SseParserTest, ReadsEvents) {
  EXPECT_EQ(parse("data: {\"a\":1}\n\ndata: [DONE]\n\n"),
            (Events{{"", "{\"a\":1}"}, {"", "[DONE]"}}));
}

TEST(SseParserTest, TakesEveryLineEnd) {
  EXPECT_EQ(parse("data: a\r\n\r\ndata: b\r\rdata: c\n\n"),
            (Events{{"", "a"}, {"", "b"}, {"", "c"}}));
}

TEST(SseParserTest, JoinsTheLinesOfAnEvent) {
  EXPECT_EQ(parse("data: a\ndata:\ndata: c\n\n"), (Events{{"", "a\n\nc"}}));
}

TEST(SseParserTest, TakesOneSpaceAfterTheColon) {
  EXPECT_EQ(parse("data:a\n\ndata:  b\n\ndata\n\n"), (Events{{"", "a"}, {"", " b"}, {"", ""}}));
}

TEST(SseParserTest, ReadsTheTypeAndReadsOverTheRest) {
  EXPECT_EQ(parse(": ping\n\nid: 7\nretry: 10\nnonsense\nevent: error\ndata: x\n\ndata: y\n\n"),
            (Events{{"error", "x"}, {"", "y"}}));
}

TEST(SseParserTest, DropsEventsWithoutData) {
  EXPECT_EQ(parse("event: lonely\n\ndata: x\n\n\n\n"), (Events{{"", "x"}}));
}

TEST(SseParserTest, SkipsAByteOrderMarkAtTheStartOnly) {
  EXPECT_EQ(parse("\xEF\xBB\xBF"
                  "data: a\n\n\xEF\xBB\xBF"
                  "data: b\n\ndata: c\n\n"),
            (Events{{"", "a"}, {"", "c"}}));
}

TEST(SseParserTest, WaitsForTheEmptyLine) {
  SseParser parser;

  EXPECT_EQ(parser.push("data: a\n").value(), Events{});
  EXPECT_EQ(parser.push("").value(), Events{});
  EXPECT_EQ(parser.push("\n").value(), (Events{{"", "a"}}));
}

TEST(SseParserTest, ReadsTheSameHoweverItIsCut) {
  const std::string stream =
      "\xEF\xBB\xBF"
      "data: one\r\ndata: two\r\n\r\n:c\revent: t\rdata: x\r\rdata: y\n\r\n\n";
  const Events whole = parse(stream);
  ASSERT_EQ(whole.size(), 3U);

  for (std::size_t first = 0; first <= stream.size(); ++first) {
    for (std::size_t second = first; second <= stream.size(); ++second) {
      SseParser parser;
      Events events;
      for (const std::string& part :
           {stream.substr(0, first), stream.substr(first, second - first), stream.substr(second)}) {
        const auto more = parser.push(part);
        ASSERT_TRUE(more.has_value());
        events.insert(events.end(), more->begin(), more->end());
      }
      ASSERT_EQ(events, whole) << first << " " << second;
    }
  }
}

TEST(SseParserTest, BoundsAnEvent) {
  const std::string line = "data: 456789\n";  // 12 bytes without its end
  SseParser roomy(24);
  EXPECT_EQ(roomy.push(line + line + "\n" + line + line + "\n")->size(), 2U);

  SseParser tight(23);
  EXPECT_TRUE(tight.push(line).has_value());
  const auto refused = tight.push(line);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, base::ErrorCode::kCorruptData);
  EXPECT_FALSE(tight.push("\n").has_value());  // and stays so
}

TEST(SseParserTest, TakesAnyNumberOfComments) {
  SseParser parser(20);

  for (int i = 0; i < 100; ++i) EXPECT_TRUE(parser.push(": ping\n").has_value());
  EXPECT_EQ(parser.push("data: x\n\n").value(), (Events{{"", "x"}}));
}

TEST(SseParserTest, BoundsALineWithoutEnd) {
  SseParser parser(1000);

  for (int i = 0; i < 10; ++i) EXPECT_TRUE(parser.push(std::string(100, 'x')).has_value());
  EXPECT_FALSE(parser.push("x").has_value());
}

TEST(SseEventTest, ReadsBackAsItWasWritten) {
  EXPECT_EQ(sse_event("{\"a\":1}"), "data: {\"a\":1}\n\n");
  EXPECT_EQ(sse_event("x", "error"), "event: error\ndata: x\n\n");
  EXPECT_EQ(sse_event(""), "data: \n\n");
  EXPECT_EQ(parse(sse_event("a\nb\r\nc\rd\n", "t")), (Events{{"t", "a\nb\nc\nd\n"}}));
}

TEST(SseEventTest, CommentsAreNoEvents) {
  EXPECT_EQ(parse(std::string(kSseComment) + "data: x\n\n" + std::string(kSseComment)),
            (Events{{"", "x"}}));
}

}  // namespace
}  // namespace conclave::http
