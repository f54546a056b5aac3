#include "prompt_builder.hpp"

#include <gmock/gmock.h>

#include <optional>
#include <string>

#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"

namespace conclave::router {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using wire::PromptKind;

constexpr std::chrono::sys_seconds kNow{std::chrono::seconds(1'800'000'000)};

class PromptBuilderTest : public ::testing::Test {
 protected:
  // The demo model has a chat template.
  PromptBuilderTest()
      : file_(*gguf::File::open(CONCLAVE_SOURCE_DIR "/models/demo/conclave-demo.gguf")),
        tokenizer_(*tokenizer::Tokenizer::from_metadata(file_.metadata())),
        prompts_(*PromptBuilder::create(file_.metadata(), tokenizer_)) {}

  [[nodiscard]] std::string text_of(const std::vector<std::int32_t>& tokens) const {
    return tokenizer_.decode(tokens, {.skip_special = false, .strip_leading_space = false});
  }
  [[nodiscard]] base::Error refusal(const std::string& chat) const {
    const auto tokens = prompts_.tokens(PromptKind::kChat, chat, kNow);
    return tokens ? base::Error{} : tokens.error();
  }

  gguf::File file_;
  tokenizer::Tokenizer tokenizer_;
  PromptBuilder prompts_;
};

TEST_F(PromptBuilderTest, TextIsThePromptAsItIs) {
  const auto tokens = prompts_.tokens(PromptKind::kText, "What is 47 + 385?", kNow);

  ASSERT_TRUE(tokens);
  EXPECT_EQ(*tokens, *tokenizer_.encode("What is 47 + 385?", {.parse_special = true}));
  EXPECT_THAT(text_of(*tokens), HasSubstr("What is 47 + 385?"));
}

TEST_F(PromptBuilderTest, AChatGoesThroughTheModelsTemplate) {
  const auto tokens =
      prompts_.tokens(PromptKind::kChat,
                      R"({"messages": [{"role": "user", "content": "What is 47 + 385?"}]})", kNow);

  ASSERT_TRUE(tokens) << tokens.error().to_string();
  const std::string text = text_of(*tokens);
  EXPECT_THAT(text, HasSubstr("What is 47 + 385?"));
  EXPECT_GT(text.size(), std::string("What is 47 + 385?").size());
  // The marks of turns are tokens of their own.
  EXPECT_TRUE(std::ranges::any_of(
      *tokens, [this](std::int32_t token) { return tokenizer_.is_control(token); }));
}

TEST_F(PromptBuilderTest, TheAnswersTurnIsOpenedUnlessTheClientSaysNo) {
  const std::string messages = R"("messages": [{"role": "user", "content": "7"}])";
  const auto open = prompts_.tokens(PromptKind::kChat, "{" + messages + "}", kNow);
  const auto closed = prompts_.tokens(
      PromptKind::kChat, "{" + messages + R"(, "add_generation_prompt": false})", kNow);

  ASSERT_TRUE(open);
  ASSERT_TRUE(closed);
  EXPECT_GT(open->size(), closed->size());
}

TEST_F(PromptBuilderTest, NullsAreAsGoodAsNothing) {
  EXPECT_TRUE(prompts_.tokens(PromptKind::kChat, R"({
      "messages": [{"role": "user", "content": "7"}], "tools": null, "documents": null,
      "chat_template_kwargs": null, "add_generation_prompt": null, "unknown": 3})",
                              kNow));
}

TEST_F(PromptBuilderTest, RefusesWhatIsNoConversation) {
  for (const char* chat :
       {"", "What is 7?", "[]", "7", "{", R"({"messages": [{"role")", R"({"messages": {}})",
        R"({"messages": [], "tools": 1})", R"({"messages": [], "documents": "x"})",
        R"({"messages": [], "chat_template_kwargs": []})",
        R"({"messages": [], "add_generation_prompt": 1})", R"({"messages": [1]})",
        R"({"messages": [{"content": "no role"}]})"}) {
    EXPECT_EQ(refusal(chat).code, ErrorCode::kInvalidArgument) << chat;
  }
}

TEST_F(PromptBuilderTest, RefusesJsonThatNestsTooDeeply) {
  EXPECT_EQ(refusal(R"({"messages": )" + std::string(100'000, '[')).code,
            ErrorCode::kInvalidArgument);
}

TEST_F(PromptBuilderTest, TokensAreNoText) {
  const auto tokens = prompts_.tokens(PromptKind::kTokens, "text", kNow);

  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(PromptBuilderTest, EncodesAsItIsTold) {
  const std::string control(tokenizer_.token_text(tokenizer_.end_of_generation().front()));

  EXPECT_EQ(prompts_.encode(control, false, true)->size(), 1u);
  EXPECT_GT(prompts_.encode(control, false, false)->size(), 1u);
}

TEST_F(PromptBuilderTest, RefusesTextBeyondTheLimit) {
  const auto tokens = prompts_.encode(std::string((std::size_t{16} << 20) + 1, 'a'), true, false);

  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(PromptBuilderTest, WithoutATemplateItTakesTextAndRefusesChats) {
  gguf::Metadata metadata;
  for (const auto& [key, value] : file_.metadata().entries()) {
    if (!key.starts_with("tokenizer.chat_template")) metadata.set(key, value);
  }
  const auto prompts = PromptBuilder::create(metadata, tokenizer_);

  ASSERT_TRUE(prompts);
  EXPECT_TRUE(prompts->tokens(PromptKind::kText, "a", kNow));
  const auto refused = prompts->tokens(PromptKind::kChat,
                                       R"({"messages": [{"role": "user", "content": "a"}]})", kNow);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_THAT(refused.error().message, HasSubstr("no chat template"));
}

TEST_F(PromptBuilderTest, ATemplateThatDoesNotParseIsCorrupt) {
  gguf::Metadata metadata = file_.metadata();
  metadata.set("tokenizer.chat_template", gguf::Value{std::string("{% if %}")});

  EXPECT_EQ(PromptBuilder::create(metadata, tokenizer_).error().code, ErrorCode::kCorruptData);
}

}  // namespace
}  // namespace conclave::router
