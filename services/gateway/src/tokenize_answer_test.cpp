#include "tokenize_answer.hpp"

#include <gtest/gtest.h>

namespace conclave::gateway {
namespace {

TEST(TokenizeAnswerTest, HasVllmsShape) {
  const wire::TokenizeReply reply{{1, 20}, {"<s>", "\"a"}, 4096};
  EXPECT_EQ(tokenize_answer(reply, false),
            R"({"count":2,"max_model_len":4096,"tokens":[1,20],"token_strs":null})");
  EXPECT_EQ(tokenize_answer(reply, true),
            R"({"count":2,"max_model_len":4096,"tokens":[1,20],"token_strs":["<s>","\"a"]})");
  EXPECT_EQ(detokenize_answer({"a\n"}), R"({"prompt":"a\n"})");
}

}  // namespace
}  // namespace conclave::gateway
