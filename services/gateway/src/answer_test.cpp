#include "answer.hpp"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <limits>

namespace conclave::gateway {
namespace {

using wire::FinishReason;
using wire::TokenEvent;

const AnswerHead kChatHead{"chatcmpl-1", 1700000000, "demo", "fp_abc"};
const AnswerHead kTextHead{"cmpl-1", 1700000000, "demo", {}};

wire::Generate chat_prompt() { return {.kind = wire::PromptKind::kChat, .text = "{}"}; }
wire::Generate text_prompt(std::string text = "hi") {
  return {.kind = wire::PromptKind::kText, .text = std::move(text)};
}

TokenEvent token(std::int32_t id, std::string text, std::uint32_t choice = 0) {
  return {.choice = choice, .token = id, .piece = text, .text = text};
}
TokenEvent end(FinishReason finish = FinishReason::kStop, std::uint32_t choice = 0) {
  return {.choice = choice, .finish = finish};
}

/// The answer to `prompts`, each said to have 3 tokens.
Answer answer_to(const AnswerFormat& format, const std::vector<wire::Generate>& prompts) {
  Answer answer(format, format.chat ? kChatHead : kTextHead, prompts);
  for (std::size_t i = 0; i < prompts.size(); ++i) answer.accept(i, 3);
  return answer;
}

std::string added(Answer& answer, std::vector<TokenEvent> tokens, std::size_t prompt = 0,
                  std::vector<TokenEvent> prompt_tokens = {}) {
  std::string out;
  answer.add(prompt, {.prompt = std::move(prompt_tokens), .tokens = std::move(tokens)}, out);
  return out;
}

std::string finished(const Answer& answer) {
  EXPECT_TRUE(answer.complete());
  std::string out;
  answer.finish(out);
  return out;
}

std::string chat_chunk(const std::string& choice, const std::string& rest = {}) {
  return R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,)"
         R"("model":"demo","system_fingerprint":"fp_abc","choices":[)" +
         choice + "]" + rest + "}\n\n";
}

std::string text_chunk(const std::string& choice, const std::string& rest = {}) {
  return R"(data: {"id":"cmpl-1","object":"text_completion","created":1700000000,)"
         R"("model":"demo","system_fingerprint":null,"choices":[)" +
         choice + "]" + rest + "}\n\n";
}

const std::string kRole =
    R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null})";

// --- chats

TEST(AnswerTest, AChatStreamsItsRoleItsTextAndItsEnd) {
  Answer answer = answer_to({.chat = true, .stream = true}, {chat_prompt()});

  EXPECT_EQ(
      added(answer, {token(5, "Hel")}),
      chat_chunk(kRole) + chat_chunk(R"({"index":0,"delta":{"content":"Hel"},"logprobs":null,)"
                                     R"("finish_reason":null})"));
  EXPECT_EQ(added(answer, {token(6, "lo\n")}),
            chat_chunk(R"({"index":0,"delta":{"content":"lo\n"},"logprobs":null,)"
                       R"("finish_reason":null})"));
  EXPECT_FALSE(answer.complete());
  EXPECT_EQ(added(answer, {end()}),
            chat_chunk(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})"));
  EXPECT_EQ(finished(answer), "data: [DONE]\n\n");
}

TEST(AnswerTest, WhatComesTogetherIsOneDelta) {
  Answer answer = answer_to({.chat = true, .stream = true}, {chat_prompt()});

  TokenEvent last = token(7, "c");
  last.finish = FinishReason::kLength;
  EXPECT_EQ(added(answer, {token(5, "a"), token(6, "b"), last}),
            chat_chunk(kRole) +
                chat_chunk(R"({"index":0,"delta":{"content":"abc"},"logprobs":null,)"
                           R"("finish_reason":null})") +
                chat_chunk(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"length"})"));
}

TEST(AnswerTest, ATokenWithoutTextYetSaysNothing) {
  Answer answer = answer_to({.chat = true, .stream = true}, {chat_prompt()});
  added(answer, {token(5, "a")});

  EXPECT_EQ(added(answer, {token(6, "")}), "");
  EXPECT_EQ(added(answer, {}), "");
  EXPECT_EQ(answer.usage(), (Usage{3, 2}));
}

TEST(AnswerTest, UsageComesLastWithoutChoices) {
  Answer answer = answer_to({.chat = true, .stream = true, .include_usage = true}, {chat_prompt()});

  EXPECT_EQ(added(answer, {token(5, "a"), end()}),
            chat_chunk(kRole, R"(,"usage":null)") +
                chat_chunk(R"({"index":0,"delta":{"content":"a"},"logprobs":null,)"
                           R"("finish_reason":null})",
                           R"(,"usage":null)") +
                chat_chunk(R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"})",
                           R"(,"usage":null)"));
  EXPECT_EQ(finished(answer),
            chat_chunk("", R"(,"usage":{"prompt_tokens":3,"completion_tokens":1,)"
                           R"("total_tokens":4,"prompt_tokens_details":{"cached_tokens":0}})") +
                "data: [DONE]\n\n");
}

// The other choices of a prompt find what the first one has computed: that is no cache of before.
TEST(AnswerTest, UsageCountsWhatTheFirstChoiceOfEachPromptFoundCached) {
  Answer answer = answer_to({.choices = 2}, {text_prompt(), text_prompt()});
  TokenEvent first = token(5, "a");
  first.cached_tokens = 2;
  TokenEvent second = end();
  second.choice = 1;
  second.cached_tokens = 3;
  added(answer, {first, second, end()});
  first.cached_tokens = 1;
  added(answer, {first}, 1);
  EXPECT_EQ(answer.usage().cached_tokens, 3u);
  std::string out;
  answer.finish(out);
  EXPECT_NE(out.find(R"("prompt_tokens_details":{"cached_tokens":3})"), std::string::npos);
}

TEST(AnswerTest, CountsWhatWasComputedForAllChoices) {
  Answer answer = answer_to({.choices = 2}, {text_prompt()});
  wire::TokenEvent first = token(5, "a");
  first.pairs = 10;
  first.device_us = 700;
  wire::TokenEvent second = end(FinishReason::kStop, 1);
  second.pairs = 4;
  second.device_us = 30;
  added(answer, {first, second});
  EXPECT_EQ(answer.usage().expert_pairs, 14u);
  EXPECT_EQ(answer.usage().device_us, 730u);
}

TokenEvent degraded(TokenEvent event, std::uint32_t pairs) {
  event.degraded = pairs;
  return event;
}

TEST(AnswerTest, UsageCountsPairsThatWentToNextBestExperts) {
  Answer answer = answer_to({.choices = 2}, {text_prompt()});
  added(answer, {degraded(token(5, "a"), 3), degraded(token(5, "a", 1), 2)});
  added(answer, {end(), degraded(end(FinishReason::kStop, 1), 1)});
  EXPECT_EQ(answer.usage().degraded_pairs, 6u);
  EXPECT_NE(finished(answer).find(
                R"("prompt_tokens_details":{"cached_tokens":0},"conclave_degraded":6})"),
            std::string::npos);
}

TEST(AnswerTest, AStreamSaysOnceThatItIsDegradedFromHereOn) {
  Answer answer = answer_to({.stream = true, .include_usage = true}, {text_prompt()});
  EXPECT_EQ(added(answer, {token(5, "a")}).find("degraded"), std::string::npos);
  EXPECT_EQ(added(answer, {degraded(token(6, "b"), 4)}),
            text_chunk(R"({"index":0,"text":"b","logprobs":null,"finish_reason":null})",
                       R"(,"conclave_degraded":4,"usage":null)"));
  EXPECT_EQ(added(answer, {degraded(token(7, "c"), 1), end()}).find("degraded"), std::string::npos);
  EXPECT_NE(finished(answer).find(R"("conclave_degraded":5})"), std::string::npos);
}

TEST(AnswerTest, UsageMayComeWithEveryChunk) {
  Answer answer =
      answer_to({.stream = true, .include_usage = true, .continuous_usage = true}, {text_prompt()});

  EXPECT_EQ(added(answer, {token(5, "a")}),
            text_chunk(R"({"index":0,"text":"a","logprobs":null,"finish_reason":null})",
                       R"(,"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,)"
                       R"("prompt_tokens_details":{"cached_tokens":0}})"));
}

TEST(AnswerTest, ChoicesInterleaveEachWithItsRole) {
  Answer answer = answer_to({.chat = true, .stream = true, .choices = 2}, {chat_prompt()});

  const std::string out = added(answer, {token(5, "a", 1), token(6, "b", 0), token(7, "c", 1)});

  const std::string role1 =
      R"({"index":1,"delta":{"role":"assistant","content":""},"logprobs":null,)"
      R"("finish_reason":null})";
  EXPECT_EQ(out, chat_chunk(kRole) +
                     chat_chunk(R"({"index":0,"delta":{"content":"b"},"logprobs":null,)"
                                R"("finish_reason":null})") +
                     chat_chunk(role1) +
                     chat_chunk(R"({"index":1,"delta":{"content":"ac"},"logprobs":null,)"
                                R"("finish_reason":null})"));
  added(answer, {end(FinishReason::kStop, 1)});
  EXPECT_FALSE(answer.complete());
  added(answer, {end(FinishReason::kStop, 0)});
  EXPECT_TRUE(answer.complete());
}

TEST(AnswerTest, AWholeChat) {
  Answer answer = answer_to({.chat = true, .choices = 2}, {chat_prompt()});

  EXPECT_EQ(added(answer, {token(5, "He"), token(5, "x", 1), token(6, "y")}), "");
  added(answer, {end(), end(FinishReason::kLength, 1)});

  EXPECT_EQ(finished(answer),
            R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,)"
            R"("model":"demo","system_fingerprint":"fp_abc","choices":[)"
            R"({"index":0,"message":{"role":"assistant","content":"Hey","refusal":null},)"
            R"("logprobs":null,"finish_reason":"stop"},)"
            R"({"index":1,"message":{"role":"assistant","content":"x","refusal":null},)"
            R"("logprobs":null,"finish_reason":"length"}],)"
            R"("usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6,)"
            R"("prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST(AnswerTest, LogprobsInTheShapeOfChats) {
  Answer answer = answer_to({.chat = true, .stream = true, .logprobs = true, .top_logprobs = 2},
                            {chat_prompt()});
  TokenEvent event = token(5, "é");
  event.logprob = -0.5f;
  event.top = {{5, -0.5f, "é"}, {9, -2.0f, "\xC3"}};

  const std::string out = added(answer, {event});

  EXPECT_EQ(out, chat_chunk(kRole) +
                     chat_chunk(R"({"index":0,"delta":{"content":"é"},"logprobs":{"content":[)"
                                R"({"token":"é","logprob":-0.5,"bytes":[195,169],"top_logprobs":[)"
                                R"({"token":"é","logprob":-0.5,"bytes":[195,169]},)"
                                "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-2.0,\"bytes\":[195]}]}]},"
                                R"("finish_reason":null})"));
}

TEST(AnswerTest, TokensWithLogprobsAreToldEvenWithoutText) {
  Answer answer = answer_to({.chat = true, .stream = true, .logprobs = true}, {chat_prompt()});
  added(answer, {token(5, "a")});
  TokenEvent event = token(6, "\xE2");
  event.text.clear();

  EXPECT_EQ(added(answer, {event}),
            chat_chunk("{\"index\":0,\"delta\":{\"content\":\"\"},\"logprobs\":{\"content\":["
                       "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":0.0,\"bytes\":[226],"
                       "\"top_logprobs\":[]}]},\"finish_reason\":null}"));
}

TEST(AnswerTest, ImpossibleTokensHaveOpenAisLogprob) {
  Answer answer = answer_to({.chat = true, .logprobs = true}, {chat_prompt()});
  TokenEvent event = token(5, "a");
  event.logprob = -std::numeric_limits<float>::infinity();
  added(answer, {event, end()});
  EXPECT_NE(finished(answer).find(R"("logprob":-9999.0)"), std::string::npos);
}

// --- completions

TEST(AnswerTest, ACompletionStreamsTextAndItsEndTogether) {
  Answer answer = answer_to({.stream = true}, {text_prompt()});

  EXPECT_EQ(added(answer, {token(5, "a")}),
            text_chunk(R"({"index":0,"text":"a","logprobs":null,"finish_reason":null})"));
  TokenEvent last = end();
  last.text = "b";  // what a stop string had held back
  EXPECT_EQ(added(answer, {last}),
            text_chunk(R"({"index":0,"text":"b","logprobs":null,"finish_reason":"stop"})"));
  EXPECT_EQ(finished(answer), "data: [DONE]\n\n");
}

TEST(AnswerTest, SeveralPromptsHaveTheirChoicesOneAfterTheOther) {
  Answer answer = answer_to({.choices = 2}, {text_prompt(), text_prompt()});

  added(answer, {token(5, "p1c1", 1), end(FinishReason::kStop, 1)}, 1);
  added(answer, {token(5, "p1c0", 0), end(FinishReason::kStop, 0)}, 1);
  added(answer, {token(5, "p0c1", 1), end(FinishReason::kStop, 1)}, 0);
  EXPECT_FALSE(answer.complete());
  added(answer, {token(5, "p0c0", 0), end(FinishReason::kLength, 0)}, 0);

  EXPECT_EQ(finished(answer),
            R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"demo",)"
            R"("system_fingerprint":null,"choices":[)"
            R"({"index":0,"text":"p0c0","logprobs":null,"finish_reason":"length"},)"
            R"({"index":1,"text":"p0c1","logprobs":null,"finish_reason":"stop"},)"
            R"({"index":2,"text":"p1c0","logprobs":null,"finish_reason":"stop"},)"
            R"({"index":3,"text":"p1c1","logprobs":null,"finish_reason":"stop"}],)"
            R"("usage":{"prompt_tokens":6,"completion_tokens":4,"total_tokens":10,)"
            R"("prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST(AnswerTest, LogprobsInTheShapeOfCompletions) {
  Answer answer = answer_to({.logprobs = true, .top_logprobs = 2}, {text_prompt()});
  TokenEvent first = token(5, "né");
  first.logprob = -0.5f;
  first.top = {{5, -0.5f, "né"}, {9, -2.0f, "x"}};
  TokenEvent second = token(6, "b");
  second.logprob = -3.0f;  // not among the likeliest
  second.top = {{7, -0.25f, "c"}, {8, -1.0f, "c"}};
  added(answer, {first});
  added(answer, {second, end()});

  const auto choice = boost::json::parse(finished(answer)).at("choices").at(0).as_object();

  EXPECT_EQ(choice.at("logprobs"),
            boost::json::parse(R"({"text_offset":[0,2],"token_logprobs":[-0.5,-3.0],)"
                               R"("tokens":["né","b"],)"
                               R"("top_logprobs":[{"né":-0.5,"x":-2.0},{"c":-0.25,"b":-3.0}]})"));
}

TEST(AnswerTest, EchoPutsThePromptBeforeEveryChoice) {
  Answer answer = answer_to({.logprobs = true, .echo = true, .choices = 2}, {text_prompt("a<s>b")});
  TokenEvent scored = token(2, "b");
  scored.logprob = -1.0f;
  // The router's text lacks the special token; the client's is what it gets back.
  added(answer, {}, 0, {token(1, "a")});
  added(answer, {}, 0, {scored});
  TokenEvent generated = token(3, "c");
  generated.logprob = -2.0f;
  added(answer, {generated, end(), token(4, "d", 1), end(FinishReason::kLength, 1)});

  const auto whole = boost::json::parse(finished(answer));

  const auto& first = whole.at("choices").at(0);
  EXPECT_EQ(first.at("text"), "a<s>bc");
  EXPECT_EQ(first.at("logprobs"),
            boost::json::parse(R"({"text_offset":[0,1,2],"token_logprobs":[null,-1.0,-2.0],)"
                               R"("tokens":["a","b","c"],)"
                               R"("top_logprobs":[null,{"b":-1.0},{"c":-2.0}]})"));
  EXPECT_EQ(whole.at("choices").at(1).at("text"), "a<s>bd");
  EXPECT_EQ(whole.at("usage").at("completion_tokens"), 2);
}

TEST(AnswerTest, EchoOfTokensIsTheRoutersText) {
  Answer answer = answer_to({.stream = true, .echo = true},
                            {{.kind = wire::PromptKind::kTokens, .tokens = {1, 2}}});

  EXPECT_EQ(added(answer, {}, 0, {token(1, "a"), token(2, "b")}), "");  // with the first new one
  EXPECT_EQ(added(answer, {token(3, "c")}),
            text_chunk(R"({"index":0,"text":"abc","logprobs":null,"finish_reason":null})"));
}

TEST(AnswerTest, AScoredPromptHasNoNewToken) {
  Answer answer = answer_to({.logprobs = true, .echo = true}, {text_prompt("ab")});
  added(answer, {}, 0, {token(1, "a"), token(2, "b")});
  added(answer, {end(FinishReason::kLength)});

  const auto whole = boost::json::parse(finished(answer));

  EXPECT_EQ(whole.at("choices").at(0).at("text"), "ab");
  EXPECT_EQ(whole.at("choices").at(0).at("logprobs").at("tokens").as_array().size(), 2u);
  EXPECT_EQ(whole.at("usage").at("completion_tokens"), 0);
}

// --- token ids

TEST(AnswerTest, TokenIdsOfCompletionsAreInTheChoice) {
  Answer answer = answer_to({.return_token_ids = true}, {text_prompt()});
  added(answer, {}, 0, {token(1, "h"), token(2, "i")});
  added(answer, {token(5, ""), token(6, "x"), end()});

  const auto choice = boost::json::parse(finished(answer)).at("choices").at(0).as_object();

  EXPECT_EQ(choice.at("prompt_token_ids"), boost::json::parse("[1,2]"));
  EXPECT_EQ(choice.at("token_ids"), boost::json::parse("[5,6]"));
  EXPECT_EQ(choice.at("text"), "x");  // no echo
}

TEST(AnswerTest, TokenIdsThatTheClientSentNeedNoRouter) {
  Answer answer = answer_to({.return_token_ids = true},
                            {{.kind = wire::PromptKind::kTokens, .tokens = {8, 9}}});
  added(answer, {token(5, "x"), end()}, 0, {token(8, "a"), token(9, "b")});
  const auto choice = boost::json::parse(finished(answer)).at("choices").at(0).as_object();
  EXPECT_EQ(choice.at("prompt_token_ids"), boost::json::parse("[8,9]"));
}

TEST(AnswerTest, TokenIdsOfChatsStream) {
  Answer answer =
      answer_to({.chat = true, .stream = true, .return_token_ids = true}, {chat_prompt()});
  added(answer, {}, 0, {token(1, "h")});

  const std::string out = added(answer, {token(5, "a")});

  EXPECT_EQ(out,
            R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,)"
            R"("model":"demo","system_fingerprint":"fp_abc","prompt_token_ids":[1],"choices":[)" +
                kRole + "]}\n\n" +
                chat_chunk(R"({"index":0,"delta":{"content":"a"},"logprobs":null,)"
                           R"("finish_reason":null,"token_ids":[5]})"));
}

// --- what must not happen

TEST(AnswerTest, PassesOverChoicesThatDoNotExistOrAreOver) {
  Answer answer = answer_to({.stream = true}, {text_prompt()});

  EXPECT_EQ(added(answer, {token(5, "x", 1), token(5, "x", ~0u)}), "");
  added(answer, {token(5, "a"), end()});
  EXPECT_EQ(added(answer, {token(6, "b"), end()}), "");
  EXPECT_TRUE(answer.complete());
  EXPECT_EQ(answer.usage(), (Usage{3, 1}));
}

TEST(AnswerTest, AnErrorWithinAStreamIsAnEvent) {
  EXPECT_EQ(stream_error({502, "lost", {}, "upstream_lost", 0}),
            "data: {\"error\":{\"message\":\"lost\",\"type\":\"server_error\",\"param\":null,"
            "\"code\":\"upstream_lost\"}}\n\n");
}

TEST(AnswerTest, WhateverTextComesTheEventsAreJsonOnOneLine) {
  Answer answer = answer_to({.stream = true}, {text_prompt()});
  const std::string out = added(answer, {token(5, "\"\\\n\r\u2028\x01\xFF{}")});
  EXPECT_EQ(out.find('\n'), out.size() - 2);
  const auto chunk = boost::json::parse(out.substr(6, out.size() - 8));
  EXPECT_EQ(chunk.at("choices").at(0).at("text"), "\"\\\n\r\u2028\x01\xEF\xBF\xBD{}");
}

}  // namespace
}  // namespace conclave::gateway
