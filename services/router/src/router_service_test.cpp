// What a router refuses, how streams end, and text without a stream.
#include <gmock/gmock.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "testing_router.hpp"

namespace conclave::router::test {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using wire::FinishReason;
using Clock = std::chrono::steady_clock;

// ---- refusals ----

TEST_F(RouterServiceTest, RefusesRequestsThatCannotRun) {
  start();
  wire::Generate none = request(1, kQuestion);
  none.choices = 0;
  EXPECT_EQ(refusal(none).code, ErrorCode::kInvalidArgument);
  wire::Generate many = request(1, kQuestion);
  many.choices = 4'000'000'000;
  EXPECT_EQ(refusal(many).code, ErrorCode::kInvalidArgument);
  wire::Generate token = request(1, "");
  token.kind = wire::PromptKind::kTokens;
  token.tokens = {1, 512};
  EXPECT_EQ(refusal(token).code, ErrorCode::kInvalidArgument);
  token.tokens.clear();
  EXPECT_EQ(refusal(token).code, ErrorCode::kInvalidArgument);
  wire::Generate hot = request(1, kQuestion);
  hot.sampling.temperature = -1.0f;
  EXPECT_EQ(refusal(hot).code, ErrorCode::kInvalidArgument);
  wire::Generate talk = request(1, "no json");
  talk.kind = wire::PromptKind::kChat;
  EXPECT_EQ(refusal(talk).code, ErrorCode::kInvalidArgument);

  // None of them left anything behind.
  EXPECT_TRUE(service_->ready());
  EXPECT_FALSE(answer(request(1, kQuestion)).choices.empty());
}

TEST_F(RouterServiceTest, RefusesAnotherModel) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.model = "olmoe";

  const base::Error error = refusal(asked);

  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_THAT(error.message, HasSubstr("serves demo, not olmoe"));
}

TEST_F(RouterServiceTest, RefusesPromptsThatAreTooLong) {
  start();
  std::string text;
  for (int i = 0; i < 200; ++i) text += kQuestion;

  EXPECT_THAT(refusal(request(1, text)).message, HasSubstr("the context of the model is 1024"));
  EXPECT_EQ(refusal(request(1, kQuestion, 1024)).code, ErrorCode::kInvalidArgument);
}

TEST_F(RouterServiceTest, RefusesAStreamThatIsOpen) {
  start();
  gate_.close();
  auto first = std::async(std::launch::async, [&] { return gateway_->generate(request(7, "a")); });
  ASSERT_TRUE(gate_.wait_for_one());

  EXPECT_EQ(refusal(request(7, kQuestion)).code, ErrorCode::kInvalidArgument);

  gate_.open();
  EXPECT_TRUE(first.get());
  gateway_->wait(7);
}

TEST_F(RouterServiceTest, RefusesMoreThanItHasRoomFor) {
  settings_.batch.sequences_max = 1;
  settings_.batch.waiting_max = 2;
  start();
  wire::Generate two = endless(1);
  two.choices = 2;
  ASSERT_TRUE(gateway_->generate(two));
  gateway_->wait_begun(1);
  gate_.close();
  ASSERT_TRUE(gate_.wait_for_one());

  two.stream = 2;
  EXPECT_EQ(refusal(two).code, ErrorCode::kOverloaded);

  gateway_->cancel({"gateway-0", 1});
  gate_.open();
  gateway_->wait(1, 2);
  two.max_tokens = 3;
  EXPECT_EQ(answer(two).choices.size(), 2u);
}

// ---- ends ----

TEST_F(RouterServiceTest, AStreamThatIsCancelledEnds) {
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  gate_.close();
  ASSERT_TRUE(gate_.wait_for_one());

  gateway_->cancel({"gateway-0", 1});
  gateway_->cancel({"gateway-0", 1});
  gateway_->cancel({"gateway-0", 99});
  flush();
  gate_.open();

  EXPECT_EQ(gateway_->wait(1).choices[0].finish, FinishReason::kCancelled);
  EXPECT_FALSE(answer(request(1, kQuestion)).choices.empty()) << "the number is free again";
}

TEST_F(RouterServiceTest, OneGatewayCannotCancelAnothersStream) {
  start();
  TestGateway other(*process_, "gateway-1");
  ASSERT_TRUE(gateway_->generate(request(1, kQuestion)));

  other.cancel({"gateway-0", 1});
  EXPECT_TRUE(other.tokenize({.model = "demo", .text = "x"}));

  EXPECT_NE(gateway_->wait(1).choices[0].finish, FinishReason::kCancelled);
}

TEST_F(RouterServiceTest, AStreamEndsWithTheLinkOfItsGateway) {
  start();
  wire::Generate asked = endless(1);
  asked.choices = 32;
  asked.sampling.temperature = 1.0f;
  ASSERT_TRUE(gateway_->generate(asked));
  gateway_->wait_begun(1);

  gateway_.reset();

  const auto report = [&] {
    std::optional<wire::NodeReport> last;
    do {
      scheduler_->nudge(kNode);
      last = scheduler_->wait_report(kNode);
    } while (last && last->load.running > 0);
    return last;
  }();
  ASSERT_TRUE(report);
  EXPECT_LT(report->load.tokens_total, 32u * 900u);
  // Nothing of it counts any more.
  service_->drain(Clock::now() + testkit::kPatience);
  gateway_ = std::make_unique<TestGateway>(*process_);
  EXPECT_THAT(refusal(request(1, kQuestion)).message, HasSubstr("draining"));
}

TEST_F(RouterServiceTest, ADrainFinishesWhatThereIsAndTakesNothingNew) {
  start();
  ASSERT_TRUE(gateway_->generate(request(1, kQuestion, 300)));
  gateway_->wait_begun(1);
  gate_.close();
  ASSERT_TRUE(gate_.wait_for_one());
  auto draining =
      std::async(std::launch::async, [&] { service_->drain(Clock::now() + testkit::kPatience); });
  ASSERT_TRUE(wait_report(wire::NodeState::kDraining));

  const base::Error error = refusal(request(2, kQuestion));
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_THAT(error.message, HasSubstr("draining"));
  EXPECT_THAT(service_->ready().error().message, HasSubstr("draining"));
  EXPECT_EQ(draining.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  gate_.open();
  draining.get();
  service_->stop();

  EXPECT_EQ(gateway_->wait(1).choices[0].tokens, expected(kQuestion, {.max_tokens = 300}).tokens);
}

TEST_F(RouterServiceTest, ADrainEndsWhenItsTimeIsOver) {
  start();
  gate_.close();
  auto asked = std::async(std::launch::async, [&] { return gateway_->generate(endless(1)); });
  ASSERT_TRUE(gate_.wait_for_one());

  service_->drain(Clock::now() + std::chrono::milliseconds(20));

  gate_.open();
  service_->stop();
  static_cast<void>(asked.get());  // accepted, or the link went down before that
}

// ---- tokens and text ----

TEST_F(RouterServiceTest, TokenizesAndBack) {
  start();

  const auto tokens = gateway_->tokenize({.model = "demo", .text = kQuestion});
  ASSERT_TRUE(tokens) << tokens.error().to_string();
  const auto text = gateway_->detokenize({.model = "demo", .tokens = tokens->tokens});

  EXPECT_EQ(tokens->tokens, *whole_->tokenizer().encode(kQuestion));
  EXPECT_EQ(tokens->pieces.size(), tokens->tokens.size());
  EXPECT_EQ(tokens->context_length, 1024u);
  ASSERT_TRUE(text);
  EXPECT_THAT(text->text, HasSubstr(kQuestion));
}

TEST_F(RouterServiceTest, TokenizesAChat) {
  start();

  const auto tokens =
      gateway_->tokenize({.model = "demo", .kind = wire::PromptKind::kChat, .text = kChat});

  ASSERT_TRUE(tokens) << tokens.error().to_string();
  EXPECT_GT(tokens->tokens.size(), whole_->tokenizer().encode(kQuestion)->size());
}

TEST_F(RouterServiceTest, RefusesWhatHasNoTokensOrNoText) {
  start();

  EXPECT_EQ(gateway_->tokenize({.model = "other", .text = "x"}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(gateway_->tokenize({.model = "demo", .kind = wire::PromptKind::kTokens, .text = "x"})
                .error()
                .code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(gateway_->detokenize({.model = "demo", .tokens = {-1}}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(gateway_->detokenize({.model = "demo", .tokens = {512}}).error().code,
            ErrorCode::kInvalidArgument);
}

TEST_F(RouterServiceTest, RefusesAnswersThatNoMessageHolds) {
  start();
  // Every byte of it is a token.
  const std::string bytes(std::size_t{3} << 20, '\x01');
  EXPECT_THAT(gateway_->tokenize({.model = "demo", .text = bytes}).error().message,
              HasSubstr("are given back"));
  std::int32_t longest = 0;
  const tokenizer::Tokenizer& tokenizer = whole_->tokenizer();
  for (std::int32_t id = 0; id < 512; ++id) {
    if (tokenizer.piece(id).size() > tokenizer.piece(longest).size()) longest = id;
  }
  const std::vector<std::int32_t> tokens(std::size_t{4} << 20, longest);
  EXPECT_THAT(gateway_->detokenize({.model = "demo", .tokens = tokens}).error().message,
              HasSubstr("the text is longer than"));
}

}  // namespace
}  // namespace conclave::router::test
