#include "bench_answer.hpp"

#include <gtest/gtest.h>

#include <string>

namespace conclave::cli {
namespace {

using base::ErrorCode;

std::string event(const std::string& data) { return "data: " + data + "\n\n"; }
std::string text(const std::string& piece) {
  return event(R"({"choices":[{"index":0,"text":")" + piece + R"(","finish_reason":null}]})");
}
const std::string kFinish = event(R"({"choices":[{"text":"","finish_reason":"length"}]})");
const std::string kDone = event("[DONE]");

TEST(AnswerReaderTest, TimesTheFirstPieceAndTheGaps) {
  AnswerReader answer;
  answer.begin(true);
  ASSERT_TRUE(answer.push(text("a"), 1.0));
  ASSERT_TRUE(answer.push(text("b"), 1.5));
  ASSERT_TRUE(answer.push(text("") + kFinish + kDone, 1.75));  // half a character is a token too
  ASSERT_TRUE(answer.end());
  EXPECT_EQ(answer.first_s(), 1.0);
  EXPECT_EQ(answer.gaps_s(), (std::vector<float>{0.5f, 0.25f}));
  EXPECT_EQ(answer.pieces(), 3u);
  EXPECT_FALSE(answer.usage());
}

TEST(AnswerReaderTest, ReadsEventsThatAreCutAnywhere) {
  const std::string whole = text("a") + text("b") + kFinish;
  AnswerReader answer;
  answer.begin(true);
  for (const char byte : whole) ASSERT_TRUE(answer.push({&byte, 1}, 2.0));
  ASSERT_TRUE(answer.end());
  EXPECT_EQ(answer.pieces(), 2u);
}

TEST(AnswerReaderTest, AChatsRoleIsNoToken) {
  AnswerReader answer;
  answer.begin(true);
  ASSERT_TRUE(
      answer.push(event(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})"), 1));
  EXPECT_FALSE(answer.first_s());
  ASSERT_TRUE(answer.push(event(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})"), 2));
  ASSERT_TRUE(answer.push(event(R"({"choices":[{"delta":{"content":"yes"}}]})"), 3));
  ASSERT_TRUE(answer.push(event(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})"), 4));
  ASSERT_TRUE(answer.end());
  EXPECT_EQ(answer.first_s(), 2.0);
  EXPECT_EQ(answer.pieces(), 2u);
}

TEST(AnswerReaderTest, AnAnswerWithoutTextHasComeWithItsEnd) {
  AnswerReader answer;
  answer.begin(true);
  ASSERT_TRUE(answer.push(kFinish, 3.0));
  EXPECT_EQ(answer.first_s(), 3.0);
  EXPECT_EQ(answer.pieces(), 0u);
}

TEST(AnswerReaderTest, TakesTheServersCounts) {
  const std::string usage = R"({"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,)"
                            R"("prompt_tokens_details":{"cached_tokens":5}}})";
  AnswerReader answer;
  answer.begin(true);
  ASSERT_TRUE(answer.push(text("abc") + kFinish + event(usage) + kDone, 1.0));
  ASSERT_TRUE(answer.usage());
  EXPECT_EQ(answer.usage()->prompt_tokens, 7u);
  EXPECT_EQ(answer.usage()->output_tokens, 3u);
  EXPECT_EQ(answer.usage()->cached_tokens, 5u);

  answer.begin(true);  // usage of null, as vLLM sends it on the way
  ASSERT_TRUE(answer.push(event(R"({"choices":[{"text":"a"}],"usage":null})"), 1.0));
  EXPECT_FALSE(answer.usage());
}

TEST(AnswerReaderTest, ReadsAnAnswerThatIsNotStreamed) {
  AnswerReader answer;
  answer.begin(false);
  ASSERT_TRUE(answer.push(R"({"choices":[{"text":"x"}],"us)", 1.0));
  ASSERT_TRUE(answer.push(R"(age":{"completion_tokens":4}})", 2.0));
  ASSERT_TRUE(answer.end());
  ASSERT_TRUE(answer.usage());
  EXPECT_EQ(answer.usage()->output_tokens, 4u);
  EXPECT_EQ(answer.usage()->cached_tokens, std::nullopt);
  EXPECT_FALSE(answer.first_s());
}

TEST(AnswerReaderTest, WhatIsNoAnswerIsSaid) {
  const auto code = [](const std::string& bytes, bool stream = true) {
    AnswerReader answer;
    answer.begin(stream);
    base::Status status = answer.push(bytes, 1.0);
    if (status) status = answer.end();
    return status ? std::optional<ErrorCode>() : status.error().code;
  };
  EXPECT_EQ(code(event("{")), ErrorCode::kCorruptData);
  EXPECT_EQ(code(text("half")), ErrorCode::kCorruptData);
  EXPECT_EQ(code(""), ErrorCode::kCorruptData);
  EXPECT_EQ(code(event(R"({"error":{"message":"no worker is left"}})")), ErrorCode::kUnavailable);
  EXPECT_EQ(code("{}", false), ErrorCode::kCorruptData);
  EXPECT_EQ(code(R"({"choices":[]})", false), ErrorCode::kCorruptData);
  EXPECT_EQ(code(std::string(17u << 20, ' '), false), ErrorCode::kCorruptData);
  EXPECT_EQ(code(event(R"([1, "choices"])") + kDone), std::nullopt);  // odd, but no error
}

}  // namespace
}  // namespace conclave::cli
