#include "chat_stream.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

using testing::HasSubstr;

std::string event(const std::string& json) { return "data: " + json + "\n\n"; }
std::string piece(const std::string& content) {
  return event(R"({"choices":[{"index":0,"delta":{"content":")" + content + R"("}}]})");
}

class ChatStreamTest : public testing::Test {
 protected:
  std::string printed_;
  ChatStream stream_{[this](std::string_view text) { printed_ += text; }};
};

TEST_F(ChatStreamTest, GivesTheTextAsItComes) {
  const std::string whole = event(R"({"choices":[{"delta":{"role":"assistant"}}]})") +
                            piece("Gr\xc3\xbc\xc3\x9f") + piece("e\\u0000!") + ": ping\n\n" +
                            event(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})") +
                            event(R"({"choices":[],"usage":{"total_tokens":3}})") + event("[DONE]");
  for (const char byte : whole) ASSERT_TRUE(stream_.push({&byte, 1}));
  EXPECT_EQ(printed_, std::string("Gr\xc3\xbc\xc3\x9f"
                                  "e\0!",
                                  9));
  EXPECT_EQ(stream_.answer(), printed_);
  EXPECT_EQ(stream_.finish_reason(), "stop");
  EXPECT_TRUE(stream_.is_done());
}

TEST_F(ChatStreamTest, IsNotDoneBeforeTheServerSaysSo) {
  ASSERT_TRUE(stream_.push(piece("half")));
  EXPECT_FALSE(stream_.is_done());
}

TEST_F(ChatStreamTest, AnErrorOfTheServerEndsIt) {
  ASSERT_TRUE(stream_.push(piece("some")));
  const base::Status status = stream_.push(event(R"({"error":{"message":"no worker left"}})"));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error(), (base::Error{base::ErrorCode::kUnavailable, "no worker left"}));
  EXPECT_EQ(printed_, "some");
  EXPECT_FALSE(stream_.push(event(R"({"error":7})")));
}

TEST_F(ChatStreamTest, WhatIsNoJsonIsAnError) {
  const base::Status status = stream_.push(event("{\"choices\""));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kCorruptData);
}

TEST_F(ChatStreamTest, JsonOfOtherShapesIsReadOver) {
  for (const char* text : {"3", "[]", "null", R"({"choices":{}})", R"({"choices":[{"delta":1}]})",
                           R"({"choices":[{"delta":{"content":null}}]})"}) {
    EXPECT_TRUE(stream_.push(event(text))) << text;
  }
  EXPECT_EQ(printed_, "");
}

TEST_F(ChatStreamTest, AnEndlessEventIsAnError) {
  base::Status status;
  for (int i = 0; i < 1000 && status; ++i) status = stream_.push(std::string(65536, 'x'));
  EXPECT_FALSE(status);
}

TEST(ServerErrorTest, SaysWhatTheServerSays) {
  http::Response response;
  response.status = 429;
  response.body = R"({"error":{"message":"too many requests","code":"rate"}})";
  EXPECT_EQ(server_error(response).message, "too many requests (status 429)");
  for (const char* body : {"", "<html>", "[]", R"({"error":"x"})"}) {
    response.body = body;
    EXPECT_THAT(server_error(response).message, HasSubstr("status 429")) << body;
  }
}

}  // namespace
}  // namespace conclave::cli
