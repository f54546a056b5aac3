#include "messages.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "conclave/jinja/template.hpp"

namespace conclave::chat {
namespace {

/// The converted messages as JSON, or the error.
std::string convert(std::string_view messages, const ContentRules& rules = {}) {
  const auto converted =
      template_messages(boost::json::parse({messages.data(), messages.size()}).as_array(), rules);
  if (!converted) return converted.error().to_string();
  const auto printer = jinja::Template::parse("{{ m | tojson }}");
  return printer->render(jinja::Object{{"m", *converted}}).value();
}

TEST(MessagesTest, KeepsUnknownKeysAndTheirOrder) {
  EXPECT_EQ(convert(R"([{"role":"user","x":{"b":1,"a":[2.5]},"content":"hi"}])"),
            R"([{"role": "user", "x": {"b": 1, "a": [2.5]}, "content": "hi"}])");
}

TEST(MessagesTest, FlattensPartsUnlessTheTemplateTakesThem) {
  const std::string_view parts =
      R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])";
  EXPECT_EQ(convert(parts), R"([{"role": "user", "content": "a\nb"}])");
  EXPECT_EQ(convert(parts, {.shape = ContentRules::Shape::kEither}),
            R"([{"role": "user", "content": [{"type": "text", "text": "a"}, )"
            R"({"type": "text", "text": "b"}]}])");
}

TEST(MessagesTest, StringsBecomePartsForTemplatesThatKnowNothingElse) {
  EXPECT_EQ(convert(R"([{"role":"user","content":"a"}])", {.shape = ContentRules::Shape::kParts}),
            R"([{"role": "user", "content": [{"type": "text", "text": "a"}]}])");
}

TEST(MessagesTest, NullContentStaysOrBecomesEmpty) {
  EXPECT_EQ(convert(R"([{"role":"user","content":null}])"),
            R"([{"role": "user", "content": null}])");
  EXPECT_EQ(convert(R"([{"role":"user","content":null}])", {.keep_null = false}),
            R"([{"role": "user", "content": ""}])");
}

TEST(MessagesTest, ToolCallArgumentsBecomeObjects) {
  EXPECT_EQ(
      convert(
          R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}])"),
      R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", )"
      R"("arguments": {"a": 1}}}], "content": null}])");
  EXPECT_EQ(convert(R"([{"role":"a","tool_calls":[{"function":{"arguments":""}}],"content":""}])"),
            R"([{"role": "a", "tool_calls": [{"function": {"arguments": {}}}], "content": ""}])");
  EXPECT_EQ(
      convert(R"([{"role":"a","tool_calls":[{"function":{"arguments":"oops"}}],"content":""}])"),
      R"([{"role": "a", "tool_calls": [{"function": {"arguments": "oops"}}], "content": ""}])");
}

TEST(MessagesTest, EmptyToolCallsDisappear) {
  EXPECT_EQ(convert(R"([{"role":"a","content":"x","tool_calls":[]}])"),
            R"([{"role": "a", "content": "x"}])");
  EXPECT_EQ(convert(R"([{"role":"a","content":"x","tool_calls":null}])"),
            R"([{"role": "a", "content": "x"}])");
}

TEST(MessagesTest, WrongShapesNameTheirPlace) {
  EXPECT_EQ(convert(R"([{"role":"user","content":"x"}, 1])"),
            "invalid_argument: messages[1]: a message is an object");
  EXPECT_EQ(convert(R"([{"content":"x"}])"),
            "invalid_argument: messages[0]: a message has a string role");
  EXPECT_EQ(convert(R"([{"role":"user","content":1}])"),
            "invalid_argument: messages[0]: content is a string, null or a list of parts");
  EXPECT_EQ(convert(R"([{"role":"user","content":[{"type":"image_url"}]}])"),
            "invalid_argument: messages[0]: content[0]: parts of type 'image_url' are not "
            "supported, only text");
  EXPECT_EQ(convert(R"([{"role":"a","tool_calls":7}])"),
            "invalid_argument: messages[0]: tool_calls is a list");
  EXPECT_EQ(convert(R"([{"role":"a","tool_calls":[7]}])"),
            "invalid_argument: messages[0]: tool_calls[0]: a tool call is an object");
}

}  // namespace
}  // namespace conclave::chat
