// What a router answers: the tokens of the whole model, alone, together and where another router
// began.
#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "testing_router.hpp"

namespace conclave::router::test {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using wire::FinishReason;

// ---- tokens ----

TEST_F(RouterServiceTest, AnswersATextAsTheWholeModelDoes) {
  start();
  const engine::Generation whole = expected(kQuestion, {.max_tokens = 12});

  const HeardStream heard = answer(request(1, kQuestion));

  EXPECT_EQ(heard.choices[0].tokens, whole.tokens);
  EXPECT_EQ(heard.choices[0].text, whole.text);
  EXPECT_TRUE(heard.prompt.empty());
  EXPECT_GT(worker_->served(), 0);
}

TEST_F(RouterServiceTest, AnswersAChat) {
  start();

  const HeardStream heard = answer(chat(1));

  EXPECT_EQ(heard.choices[0].text, "432");
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kStop);
}

TEST_F(RouterServiceTest, TakesTokensAsTheyAre) {
  start();
  wire::Generate asked = request(1, "");
  asked.kind = wire::PromptKind::kTokens;
  asked.tokens = {30, 31, 32};

  const HeardStream heard = answer(asked);

  EXPECT_EQ(heard.choices[0].tokens,
            expected("", {.prompt = asked.tokens, .max_tokens = 12}).tokens);
}

TEST_F(RouterServiceTest, EveryChoiceDrawsWithASeedOfItsOwn) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.choices = 3;
  asked.sampling.temperature = 1.5f;
  asked.sampling.seed = 17;

  const HeardStream heard = answer(asked);

  ASSERT_EQ(heard.choices.size(), 3u);
  for (std::uint32_t choice = 0; choice < 3; ++choice) {
    const engine::SequenceRequest alone{.max_tokens = 12,
                                        .sampling = {.temperature = 1.5f, .seed = 17u + choice}};
    EXPECT_EQ(heard.choices[choice].tokens, expected(kQuestion, alone).tokens) << choice;
  }
}

TEST_F(RouterServiceTest, ManyAtOnceGetWhatEachGetsAlone) {
  start();
  std::vector<std::string> texts;
  for (int i = 0; i < 20; ++i) texts.push_back("What is " + std::to_string(i * 37) + " + 5?");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    ASSERT_TRUE(gateway_->generate(request(i + 1, texts[i])));
  }

  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(gateway_->wait(i + 1).choices[0].tokens,
              expected(texts[i], {.max_tokens = 12}).tokens);
  }
}

TEST_F(RouterServiceTest, SaysWhatOfAPromptWasCachedForItsSalt) {
  start();
  const std::string text = "What is 47 + 385? Say it in one word, please.";
  const auto asked = [&](std::uint64_t stream, const std::string& salt) {
    wire::Generate generate = request(stream, text);
    generate.cache_salt = salt;
    return generate;
  };
  const HeardStream cold = answer(asked(1, "a"));
  const HeardStream warm = answer(asked(2, "a"));
  const HeardStream stranger = answer(asked(3, "b"));

  EXPECT_EQ(cold.choices[0].events.back().cached_tokens, 0u);
  EXPECT_GT(warm.choices[0].events.back().cached_tokens, 0u);
  EXPECT_EQ(stranger.choices[0].events.back().cached_tokens, 0u);
  EXPECT_EQ(warm.choices[0].tokens, cold.choices[0].tokens);
  EXPECT_THAT(host_.metrics().expose(),
              HasSubstr("conclave_router_prefix_cache_hit_tokens_total " +
                        std::to_string(warm.choices[0].events.back().cached_tokens)));
}

TEST_F(RouterServiceTest, ABetterPriorityTakesThePlaceOfAWorseOne) {
  settings_.batch.sequences_max = 1;
  start();
  wire::Generate low = endless(1);
  low.priority = 2;
  ASSERT_TRUE(gateway_->generate(low));
  gateway_->wait_begun(1);
  wire::Generate high = request(2, kQuestion);
  high.priority = -1;

  EXPECT_EQ(answer(high).choices[0].tokens, expected(kQuestion, {.max_tokens = 12}).tokens);

  EXPECT_THAT(host_.metrics().expose(), HasSubstr("conclave_router_preemptions_total 1"));
  gateway_->cancel({"gateway-0", 1});
  gateway_->wait(1);
}

TEST_F(RouterServiceTest, ReportsLogprobsIfTheyAreWanted) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.logprobs = true;
  asked.top_logprobs = 2;
  const engine::Generation whole =
      expected(kQuestion, {.max_tokens = 12, .logprobs = true, .top_logprobs = 2});

  const HeardStream heard = answer(asked);

  ASSERT_EQ(heard.choices[0].events.size(), whole.logprobs.size());
  for (std::size_t i = 0; i < whole.logprobs.size(); ++i) {
    const wire::TokenEvent& event = heard.choices[0].events[i];
    EXPECT_EQ(event.logprob, whole.logprobs[i].logprob);
    EXPECT_EQ(event.piece, whole_->tokenizer().piece(event.token));
    ASSERT_EQ(event.top.size(), 2u);
    EXPECT_EQ(event.top[0].token, whole.logprobs[i].top[0].id);
  }
}

TEST_F(RouterServiceTest, EchoesThePrompt) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.echo = true;

  const HeardStream heard = answer(asked);

  std::string text;
  for (const wire::TokenEvent& event : heard.prompt) text += event.text;
  EXPECT_EQ(text, kQuestion);
  EXPECT_TRUE(heard.prompt_came_first);
}

TEST_F(RouterServiceTest, ScoresThePromptThatItEchoes) {
  start();
  std::string text;
  for (int i = 0; i < 40; ++i) text += kQuestion;  // over several steps
  wire::Generate asked = request(1, text, 3);
  asked.echo = true;
  asked.logprobs = true;
  asked.top_logprobs = 1;
  asked.choices = 2;
  const engine::Generation whole = expected(
      text, {.max_tokens = 3, .logprobs = true, .top_logprobs = 1, .prompt_logprobs = true});

  const HeardStream heard = answer(asked);

  ASSERT_EQ(heard.prompt.size(), whole.prompt_logprobs.size() + 1);
  EXPECT_TRUE(heard.prompt[0].top.empty());  // nothing is before the first one
  for (std::size_t i = 0; i < whole.prompt_logprobs.size(); ++i) {
    EXPECT_EQ(heard.prompt[i + 1].token, whole.prompt_logprobs[i].token);
    EXPECT_EQ(heard.prompt[i + 1].logprob, whole.prompt_logprobs[i].logprob);
  }
  EXPECT_TRUE(heard.prompt_came_first);
  EXPECT_EQ(heard.choices[0].tokens, whole.tokens);
  EXPECT_EQ(heard.choices[1].tokens, whole.tokens);
}

TEST_F(RouterServiceTest, ScoresAPromptWithoutGoingOn) {
  start();
  wire::Generate asked = request(1, kQuestion, 0);
  asked.echo = true;
  asked.logprobs = true;

  const HeardStream heard = answer(asked);

  EXPECT_GT(heard.prompt.size(), 3u);
  EXPECT_TRUE(heard.choices[0].tokens.empty());
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kLength);
}

TEST_F(RouterServiceTest, EndsAtAStopString) {
  start();
  wire::Generate asked = chat(1);
  asked.stop = {"3"};

  EXPECT_EQ(answer(asked).choices[0].text, "4");

  asked.stream = 2;
  asked.include_stop = true;
  const HeardStream heard = answer(asked);
  EXPECT_EQ(heard.choices[0].text, "43");
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kStop);
}

TEST_F(RouterServiceTest, EndsAtAStopToken) {
  start();
  const engine::Generation whole = expected(kQuestion, {.max_tokens = 12});
  wire::Generate asked = request(1, kQuestion);
  asked.stop_tokens = {whole.tokens[2]};

  const HeardStream heard = answer(asked);

  ASSERT_LE(heard.choices[0].tokens.size(), 2u);
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kStop);
}

TEST_F(RouterServiceTest, GoesOnToTheEndOfTheContextIfNoLengthIsAskedFor) {
  settings_.batch.kv_tokens_max = 250;  // no multiple of a block
  start();
  wire::Generate asked = endless(1);
  asked.max_tokens.reset();

  const HeardStream heard = answer(asked);

  const std::size_t prompt = whole_->tokenizer().encode(kQuestion)->size();
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(prompt + heard.choices[0].tokens.size(), 240u);
}

// ---- streams that another router began ----

// What came of `asked` when it was computed as a whole, and all that comes if it is cut after each
// token: the rest of it, with the same texts and numbers.
TEST_F(RouterServiceTest, GoesOnWhereAnotherRouterEnded) {
  start();
  wire::Generate greedy = request(1, kQuestion);
  greedy.logprobs = true;
  greedy.top_logprobs = 2;
  wire::Generate sampled = request(1, kQuestion);
  sampled.choices = 3;
  sampled.sampling = {.temperature = 1.5f,
                      .seed = 17,
                      .presence_penalty = 0.7f,
                      .repetition_penalty = 1.3f,
                      .min_tokens = 4};
  wire::Generate held = chat(1);
  held.stop = {"32x", "2"};  // text is held back for the first, the second ends it
  wire::Generate bytes = request(1, "\xe2\x82\xac \xf0\x9f\x98\x80", 10);
  bytes.sampling = {.temperature = 2.0f, .seed = 5};
  std::uint64_t stream = 100;
  for (const wire::Generate& asked : {greedy, sampled, held, bytes}) {
    const HeardStream whole = answer(asked);
    for (std::size_t cut = 1; cut < 12; ++cut) {
      SCOPED_TRACE(asked.text + ", cut after " + std::to_string(cut));
      wire::Generate rest = asked;
      rest.stream = ++stream;
      rest.version = version_.version;
      for (const Heard& choice : whole.choices) {
        const bool finished = choice.tokens.size() <= cut;
        rest.resume.push_back({{}, finished});
        if (!finished) {
          rest.resume.back().tokens.assign(choice.tokens.begin(),
                                           choice.tokens.begin() + static_cast<long>(cut));
        }
      }
      if (std::ranges::all_of(rest.resume, &wire::ResumedChoice::finished)) break;

      ASSERT_TRUE(gateway_->generate(rest));
      const auto open = static_cast<std::size_t>(
          std::ranges::count(rest.resume, false, &wire::ResumedChoice::finished));
      const HeardStream heard = gateway_->wait(rest.stream, open);

      for (std::size_t i = 0; i < heard.choices.size(); ++i) {
        const Heard& all = whole.choices[i];
        const Heard& more = heard.choices[i];
        if (rest.resume[i].finished) {
          EXPECT_TRUE(more.tokens.empty());
          continue;
        }
        std::string text;
        std::vector<std::int32_t> tokens(all.tokens.begin() + static_cast<long>(cut),
                                         all.tokens.end());
        for (std::size_t at = 0; at < cut; ++at) text += all.events[at].text;
        EXPECT_EQ(more.tokens, tokens);
        EXPECT_EQ(text + more.text, all.text);
        EXPECT_EQ(more.finish, all.finish);
        for (std::size_t at = 0; at < more.events.size() && cut + at < all.events.size(); ++at) {
          EXPECT_EQ(more.events[at].logprob, all.events[cut + at].logprob);
          EXPECT_EQ(more.events[at].top, all.events[cut + at].top);
        }
      }
    }
  }
}

TEST_F(RouterServiceTest, SaysWhatAnotherRouterMustKnowToGoOn) {
  settings_.batch.kv_tokens_max = 256;
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.max_tokens.reset();

  const auto accepted = gateway_->generate(asked);

  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->version, version_.version);
  EXPECT_EQ(accepted->prompt_tokens + accepted->max_tokens, 256u);
  gateway_->wait(1);
}

TEST_F(RouterServiceTest, RefusesToGoOnWithWhatCannotBe) {
  start();
  const auto refused = [this](const std::function<void(wire::Generate&)>& change) {
    wire::Generate asked = request(1, kQuestion);
    asked.choices = 2;
    asked.resume.resize(2);
    change(asked);
    return refusal(asked).code;
  };
  using Change = wire::Generate&;
  EXPECT_EQ(refused([](Change asked) { asked.resume.pop_back(); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      refused([](Change asked) { asked.resume[0].finished = asked.resume[1].finished = true; }),
      ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.echo = true; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.resume[1].tokens = {-1}; }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.resume[1].tokens.assign(13, 5); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.version = 77; }), ErrorCode::kUnavailable);
  EXPECT_EQ(refused([](Change) {}), base::Error{}.code) << "and none of them left anything";
  gateway_->wait(1, 2);
}

}  // namespace
}  // namespace conclave::router::test
