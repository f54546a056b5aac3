// What a batcher promises of each sequence, driven step by step. What sequences do to each other:
// batcher_prefix_test, batcher_room_test, batcher_priority_test, batcher_pace_test.
#include "conclave/engine/batcher.hpp"

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;
using base::ErrorCode;
using testing::ElementsAre;
using testing::HasSubstr;
using tokenizer::kNoToken;

using BatcherTest = BatchTest;

TEST_F(BatcherTest, AnswersAndEndsAtTheEndToken) {
  const Outcome outcome = alone(request_for("What is 47 + 385?"));
  EXPECT_EQ(outcome.text, "432");
  EXPECT_EQ(outcome.finish, FinishReason::kStop);
  EXPECT_TRUE(demo().tokenizer().is_end_of_generation(outcome.stop_token));
  EXPECT_FALSE(demo().tokenizer().is_end_of_generation(outcome.tokens.back()));
  EXPECT_EQ(outcome.stop_string, -1);
}

TEST_F(BatcherTest, IgnoreEosGoesOnToTheLength) {
  SequenceRequest request = request_for("What is 47 + 385?", 8);
  request.ignore_eos = true;
  const Outcome outcome = alone(request);
  EXPECT_EQ(outcome.tokens.size(), 8u);
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
}

TEST_F(BatcherTest, ASequenceDoesNotDependOnItsBatch) {
  const std::vector<SequenceRequest> requests = varied_requests();
  std::vector<Outcome> expected;
  for (const SequenceRequest& request : requests) expected.push_back(alone(request));

  for (const std::uint32_t step_rows : {3u, 16u, 512u}) {
    start({.sequences_max = 3, .step_rows_max = step_rows});
    std::vector<SequenceId> ids;
    for (const SequenceRequest& request : requests) {  // one more every other step
      ids.push_back(submit(request));
      step();
      step();
    }
    finish();
    for (std::size_t i = 0; i < ids.size(); ++i) expect_same(outcomes[ids[i]], expected[i]);
  }
}

TEST_F(BatcherTest, StepsKeepToTheirRowsAndCountThem) {
  start({.sequences_max = 4, .step_rows_max = 8});
  std::uint64_t prompts = 0;
  for (const SequenceRequest& request : varied_requests()) {
    prompts += request.prompt.size();
    submit(request);
  }
  std::uint64_t rows = 0;
  std::uint64_t steps = 0;
  while (batcher->has_work()) {
    step();
    ++steps;
    const BatcherStats stats = batcher->stats();
    EXPECT_LE(stats.rows - rows, 8u);
    EXPECT_LE(stats.running, 4u);
    rows = stats.rows;
  }
  const BatcherStats stats = batcher->stats();
  EXPECT_EQ(stats.steps, steps);
  EXPECT_EQ(stats.prompt_tokens, prompts);
  std::uint64_t tokens = 0;
  for (const auto& [id, outcome] : outcomes) tokens += outcome.tokens.size();
  EXPECT_EQ(stats.generated_tokens, tokens);
  // Each token drawn but the last of its sequence is a row too.
  EXPECT_EQ(stats.rows, prompts + tokens - outcomes.size());
}

TEST_F(BatcherTest, DecodingGoesOnWhileALongPromptIsRead) {
  start({.sequences_max = 2, .step_rows_max = 8});
  SequenceRequest first = request_for("Hello", 30);
  first.ignore_eos = true;
  const SequenceId reader = submit(first);
  while (outcomes[reader].tokens.empty()) step();
  SequenceRequest second = request_for(std::string(100, 'x'));
  submit(second);
  for (int i = 0; i < 10; ++i) {
    const std::size_t before = outcomes[reader].tokens.size();
    step();
    EXPECT_EQ(outcomes[reader].tokens.size(), before + 1);
  }
}

TEST_F(BatcherTest, FirstComeFirstServed) {
  start({.sequences_max = 1});
  std::vector<SequenceId> ids;
  for (const char* text : {"What is 47 + 385?", "Hello", "What is 12 - 7?"}) {
    ids.push_back(submit(request_for(text)));
  }
  EXPECT_EQ(batcher->stats().waiting, 3u);
  std::vector<SequenceId> order;
  while (batcher->has_work()) {
    for (const TokenEvent& event : batcher->step()) {
      if (event.finish != FinishReason::kNone) order.push_back(event.id);
    }
  }
  EXPECT_EQ(order, ids);
}

TEST_F(BatcherTest, TheQueueIsBounded) {
  start({.sequences_max = 1, .waiting_max = 2});
  submit(request_for("a"));
  submit(request_for("b"));
  EXPECT_EQ(refusal(request_for("c")).code, ErrorCode::kOverloaded);
  step();  // the first is admitted
  submit(request_for("c"));
  EXPECT_EQ(refusal(request_for("d")).code, ErrorCode::kOverloaded);
  finish();
  EXPECT_EQ(outcomes.size(), 3u);
}

TEST_F(BatcherTest, RequestsThatCanNeverRunAreRefusedByName) {
  start({.kv_tokens_max = 256});
  const auto message = [this](const std::function<void(SequenceRequest&)>& change) {
    SequenceRequest request = request_for("Hello");
    change(request);
    const base::Error error = refusal(std::move(request));
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
    return error.message;
  };
  using Request = SequenceRequest;
  EXPECT_THAT(message([](Request& r) { r.prompt.clear(); }), HasSubstr("no tokens"));
  EXPECT_THAT(message([](Request& r) { r.prompt[1] = 512; }), HasSubstr("token 512"));
  EXPECT_THAT(message([](Request& r) { r.prompt[1] = -1; }), HasSubstr("token -1"));
  EXPECT_THAT(message([](Request& r) { r.max_tokens = ~0u; }), HasSubstr("context of 1024"));
  EXPECT_THAT(message([](Request& r) { r.max_tokens = 300; }), HasSubstr("KV cache"));
  EXPECT_THAT(message([](Request& r) { r.sampling.min_p = 2.0f; }), HasSubstr("min-p"));
  EXPECT_THAT(message([](Request& r) { r.sampling.min_tokens = 25; }), HasSubstr("min-tokens"));
  EXPECT_THAT(message([](Request& r) {
                r.sampling.logit_bias = {{512, 1.0f}};
              }),
              HasSubstr("token 512"));
  EXPECT_THAT(message([](Request& r) { r.top_logprobs = 1025; }), HasSubstr("top-logprobs"));
  EXPECT_THAT(message([](Request& r) { r.stop = {""}; }), HasSubstr("stop string"));
  EXPECT_THAT(message([](Request& r) { r.stop = {"\xc3"}; }), HasSubstr("UTF-8"));
  EXPECT_THAT(message([](Request& r) { r.stop = {std::string(1025, 'x')}; }),
              HasSubstr("stop string"));
  EXPECT_THAT(message([](Request& r) { r.stop.resize(65, "x"); }), HasSubstr("stop strings"));
  EXPECT_THAT(message([](Request& r) { r.stop_tokens.resize(257); }), HasSubstr("stop tokens"));
  EXPECT_THAT(message([](Request& r) { r.stop_tokens = {-5}; }), HasSubstr("token -5"));
  EXPECT_THAT(message([](Request& r) { r.generated = {600}; }), HasSubstr("token 600"));
  EXPECT_THAT(message([](Request& r) { r.generated.resize(25, 3); }), HasSubstr("generated"));
  EXPECT_FALSE(batcher->has_work());
}

TEST_F(BatcherTest, CancelEndsASequenceInEveryState) {
  start({.sequences_max = 2, .step_rows_max = 4});
  SequenceRequest request = request_for("Hello", 20);
  request.ignore_eos = true;
  const SequenceId decoding = submit(request);
  while (outcomes[decoding].tokens.size() < 3) step();
  const SequenceId reading = submit(request);
  step();
  const SequenceId waiting = submit(request);
  ASSERT_EQ(batcher->stats().running, 2u);
  ASSERT_EQ(batcher->stats().waiting, 1u);
  ASSERT_FALSE(outcomes.contains(reading));

  for (const SequenceId id : {waiting, decoding, reading}) {
    EXPECT_TRUE(batcher->cancel(id));
    EXPECT_FALSE(batcher->cancel(id));
  }
  EXPECT_EQ(batcher->stats().kv_tokens_used, 0u);
  EXPECT_EQ(batcher->stats().running, 0u);
  EXPECT_TRUE(batcher->has_work());  // it has to say so
  step();
  for (const SequenceId id : {waiting, decoding, reading}) {
    EXPECT_EQ(outcomes[id].finish, FinishReason::kCancelled);
  }
  EXPECT_FALSE(batcher->has_work());
  EXPECT_FALSE(batcher->cancel(SequenceId{99}));
}

TEST_F(BatcherTest, CancellingOneLeavesTheOthersAlone) {
  const std::vector<SequenceRequest> requests = varied_requests();
  const Outcome expected = alone(requests[0]);
  start();
  const SequenceId stays = submit(requests[0]);
  const SequenceId goes = submit(requests[1]);
  for (int i = 0; i < 4; ++i) step();
  batcher->cancel(goes);
  finish();
  expect_same(outcomes[stays], expected);
}

TEST_F(BatcherTest, AFailedStepEndsTheSequencesInItAndNoOther) {
  const std::vector<SequenceRequest> requests = varied_requests();
  const Outcome expected = alone(requests[1]);
  start({.sequences_max = 3, .step_rows_max = 8});
  const SequenceId in_step = submit(requests[0]);
  const SequenceId not_in_step = submit(requests[1]);  // admitted; the step's rows are taken
  experts.fail_calls = 1;
  step();
  EXPECT_EQ(outcomes[in_step].finish, FinishReason::kError);
  EXPECT_EQ(outcomes[in_step].error.code, ErrorCode::kUnavailable);
  EXPECT_FALSE(outcomes.contains(not_in_step));
  finish();
  expect_same(outcomes[not_in_step], expected);
}

TEST_F(BatcherTest, GoesInTwoMicroBatchesWhereThatIsFasterAndSaysTheSame) {
  const std::vector<SequenceRequest> requests = varied_requests();
  std::vector<Outcome> expected;
  for (const SequenceRequest& request : requests) expected.push_back(alone(request));
  const auto run = [&](const BatcherOptions& options, std::chrono::milliseconds split_took) {
    outcomes.clear();
    start(options);
    std::vector<SequenceId> ids;
    for (const SequenceRequest& request : requests) ids.push_back(submit(request));
    while (batcher->has_work()) {
      const std::uint64_t before = batcher->stats().split_steps;
      step();
      const bool split = batcher->stats().split_steps > before;
      batcher->step_took(split ? split_took : std::chrono::milliseconds(10));
    }
    for (std::size_t i = 0; i < ids.size(); ++i) expect_same(outcomes[ids[i]], expected[i]);
    return batcher->stats().split_steps;
  };
  EXPECT_EQ(run({}, std::chrono::milliseconds(5)), 0u) << "experts are here";
  experts.remote = true;
  EXPECT_EQ(run({.micro_batches_max = 1}, std::chrono::milliseconds(5)), 0u);
  const std::uint64_t slower = run({}, std::chrono::milliseconds(15));
  EXPECT_GT(slower, 0u) << "it tries";
  EXPECT_GT(run({}, std::chrono::milliseconds(5)), slower);
}

TEST_F(BatcherTest, BrokenNumbersEndOnlyTheirSequence) {
  const std::vector<SequenceRequest> requests = varied_requests();
  const Outcome expected = alone(requests[1]);
  start();
  const SequenceId first = submit(requests[0]);
  const SequenceId second = submit(requests[1]);
  while (outcomes[first].tokens.size() < 2) step();
  experts.poisoned_row = 0;  // of the first sequence
  step();
  experts.poisoned_row.reset();
  EXPECT_EQ(outcomes[first].finish, FinishReason::kError);
  EXPECT_EQ(outcomes[first].error.code, ErrorCode::kCorruptData);
  finish();
  expect_same(outcomes[second], expected);
}

TEST_F(BatcherTest, ABiasCanForceAToken) {
  SequenceRequest request = request_for("Hello", 5);
  const std::int32_t token = encode("Q").front();
  request.sampling.logit_bias = {{token, 100.0f}};
  request.sampling.temperature = 1.0f;
  const Outcome outcome = alone(request);
  EXPECT_EQ(outcome.tokens, std::vector<std::int32_t>(5, token));
  EXPECT_EQ(outcome.text, "QQQQQ");
  EXPECT_LT(outcome.logprobs[0], -1.0f);  // the plain model did not expect it
}

TEST_F(BatcherTest, MinTokensKeepsTheTextFromEnding) {
  SequenceRequest request = request_for("What is 47 + 385?");
  request.sampling.min_tokens = 9;
  const Outcome outcome = alone(request);
  ASSERT_GE(outcome.tokens.size(), 9u);
  for (const std::int32_t token : outcome.tokens) {
    EXPECT_FALSE(demo().tokenizer().is_end_of_generation(token));
  }
  EXPECT_EQ(outcome.text.substr(0, 3), "432");

  // A stop token and a stop string count from there on as well.
  request.stop_tokens = {outcome.tokens[1]};
  EXPECT_GE(alone(request).tokens.size(), 9u);
  request.stop_tokens.clear();
  request.stop = {"3"};
  EXPECT_GE(alone(request).tokens.size(), 9u);
  EXPECT_EQ(alone(request).text.substr(0, 3), "432");
}

TEST_F(BatcherTest, StopTokensEndTheTextAndAreLeftOutUnlessAskedFor) {
  SequenceRequest request = request_for("What is 47 + 385?");
  const Outcome whole = alone(request);
  request.stop_tokens = {whole.tokens[1]};
  const Outcome without = alone(request);
  EXPECT_EQ(without.tokens,
            std::vector<std::int32_t>(whole.tokens.begin(), whole.tokens.begin() + 1));
  EXPECT_EQ(without.text, "4");
  EXPECT_EQ(without.finish, FinishReason::kStop);
  EXPECT_EQ(without.stop_token, whole.tokens[1]);
  request.include_stop = true;
  const Outcome with = alone(request);
  EXPECT_EQ(with.tokens.size(), 2u);
  EXPECT_EQ(with.text, "43");
  EXPECT_EQ(with.stop_token, whole.tokens[1]);
}

TEST_F(BatcherTest, StopStringsMaySpanTokens) {
  SequenceRequest request = request_for("What is 47 + 385?");
  request.stop = {"xyz", "32"};
  const Outcome outcome = alone(request);
  EXPECT_EQ(outcome.text, "4");
  EXPECT_THAT(outcome.texts, ElementsAre("4", "", ""));  // "3" was held back
  EXPECT_EQ(outcome.tokens.size(), 3u);                  // every token drawn is reported
  EXPECT_EQ(outcome.finish, FinishReason::kStop);
  EXPECT_EQ(outcome.stop_string, 1);
  EXPECT_EQ(outcome.stop_token, kNoToken);

  request.include_stop = true;
  EXPECT_THAT(alone(request).texts, ElementsAre("4", "3", "2"));
}

TEST_F(BatcherTest, TextHeldBackIsReleasedAtTheEnd) {
  SequenceRequest request = request_for("What is 47 + 385?");
  request.stop = {"3299"};
  const Outcome at_eos = alone(request);
  EXPECT_EQ(at_eos.text, "432");
  EXPECT_THAT(at_eos.texts, ElementsAre("4", "", "", "32"));
  EXPECT_EQ(at_eos.stop_string, -1);

  request.max_tokens = 2;
  const Outcome at_length = alone(request);
  EXPECT_THAT(at_length.texts, ElementsAre("4", "3"));
  EXPECT_EQ(at_length.finish, FinishReason::kLength);

  request.stop = {"43"};  // complete with the last token that is allowed
  EXPECT_EQ(alone(request).finish, FinishReason::kStop);
}

TEST_F(BatcherTest, CharactersOfSeveralTokensComeWholeAndStopWhole) {
  // U+20AC is E2 82 AC, a token each; the first two come as resumed output, a bias forces the
  // third.
  const std::vector<std::int32_t> euro = encode("\u20ac");
  ASSERT_EQ(euro.size(), 3u);
  SequenceRequest request = request_for("Hello", 4);
  request.generated = {euro[0], euro[1]};
  request.sampling.logit_bias = {{euro[2], 100.0f}};
  const Outcome whole = alone(request);
  // More of the last byte makes no character.
  EXPECT_THAT(whole.texts, ElementsAre("\u20ac", "\ufffd"));

  request.stop = {"\u20ac"};
  const Outcome stopped = alone(request);
  EXPECT_EQ(stopped.text, "");
  EXPECT_EQ(stopped.tokens.size(), 1u);
  EXPECT_EQ(stopped.stop_string, 0);

  request.stop.clear();
  request.max_tokens = 3;
  request.sampling.logit_bias = {{euro[0], 100.0f}};  // a character begun and never completed
  EXPECT_EQ(alone(request).text, "\ufffd\ufffd");
}

TEST_F(BatcherTest, PenaltiesEqualAPlainLoopOverTheModel) {
  SequenceRequest request = request_for("Repeat the word apple: apple apple apple", 40);
  request.ignore_eos = true;
  request.sampling.presence_penalty = 0.7f;
  request.sampling.frequency_penalty = 0.4f;
  request.sampling.repetition_penalty = 1.2f;
  const Outcome outcome = alone(request);

  const std::size_t vocab = demo().config().vocab;
  const auto cache = model::KvPool::create(demo().config(), BatcherOptions().kv_type, 64).value();
  std::vector<model::KvBlockId> blocks(64);
  std::iota(blocks.begin(), blocks.end(), 0u);
  Forward forward(demo().backbone(), demo().experts(), *cache);
  std::vector<std::int32_t> tokens = request.prompt;
  std::vector<int> output(vocab, 0);
  std::uint32_t computed = 0;
  for (std::size_t i = 0; i < outcome.tokens.size(); ++i) {
    std::vector<StepRow> rows;
    for (; computed < tokens.size(); ++computed) {
      rows.push_back({tokens[computed], computed, blocks, computed + 1 == tokens.size()});
    }
    const auto logits = forward.step(rows).value();
    std::size_t best = 0;
    float best_logit = -std::numeric_limits<float>::infinity();
    for (std::size_t token = 0; token < vocab; ++token) {
      float logit = logits[token];
      if (std::find(tokens.begin(), tokens.end(), static_cast<std::int32_t>(token)) !=
          tokens.end()) {
        logit = logit > 0.0f ? logit / 1.2f : logit * 1.2f;
      }
      if (output[token] > 0) {
        logit = logit - 0.4f * static_cast<float>(output[token]) - 0.7f;
      }
      if (logit > best_logit) best = token, best_logit = logit;
    }
    ASSERT_EQ(outcome.tokens[i], static_cast<std::int32_t>(best)) << i;
    tokens.push_back(outcome.tokens[i]);
    ++output[best];
  }
  request.sampling = {};
  EXPECT_NE(alone(request).tokens, outcome.tokens);
}

TEST_F(BatcherTest, PromptLogprobsEqualThoseOfAFullForwardPass) {
  // Longer than the rows of logits that one step computes for prompts.
  SequenceRequest request = request_for(std::string(150, 'z') + "?", 3);
  request.prompt_logprobs = true;
  request.top_logprobs = 2;
  const Outcome outcome = alone(request);

  const std::size_t vocab = demo().config().vocab;
  const std::size_t n = request.prompt.size();
  ASSERT_GT(n, 130u);
  const auto cache = model::KvPool::create(demo().config(), BatcherOptions().kv_type, 64).value();
  std::vector<model::KvBlockId> blocks(64);
  std::iota(blocks.begin(), blocks.end(), 0u);
  Forward forward(demo().backbone(), demo().experts(), *cache);
  std::vector<StepRow> rows;
  for (std::uint32_t i = 0; i < n; ++i) rows.push_back({request.prompt[i], i, blocks, true});
  const auto logits = forward.step(rows).value();
  ASSERT_EQ(outcome.prompt.size(), n - 1);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    const auto row = logits.subspan(i * vocab, vocab);
    double sum = 0.0;
    for (const float logit : row) sum += std::exp(double{logit});
    const TokenLogprobs& at = outcome.prompt[i];
    EXPECT_EQ(at.token, request.prompt[i + 1]);
    const double expected = row[static_cast<std::size_t>(at.token)] - std::log(sum);
    EXPECT_NEAR(at.logprob, expected, 1e-4);
    ASSERT_EQ(at.top.size(), 2u);
    const auto best = std::max_element(row.begin(), row.end()) - row.begin();
    EXPECT_EQ(at.top[0].id, best);
    EXPECT_GE(at.top[0].logprob, at.top[1].logprob);
    EXPECT_GE(at.top[0].logprob, at.logprob);
  }
  EXPECT_EQ(outcome.tokens.size(), 3u);
  request.prompt_logprobs = false;
  EXPECT_EQ(alone(request).tokens, outcome.tokens);
}

TEST_F(BatcherTest, APromptCanBeScoredWithoutGenerating) {
  SequenceRequest request = request_for("Hello", 5);
  request.prompt_logprobs = true;
  const Outcome both = alone(request);
  request.max_tokens = 0;
  const Outcome scored = alone(request);
  EXPECT_EQ(scored.prompt, both.prompt);
  EXPECT_EQ(scored.finish, FinishReason::kLength);
  EXPECT_TRUE(scored.tokens.empty());
  EXPECT_EQ(batcher->stats().rows, request.prompt.size() - 1);

  request.prompt_logprobs = false;
  EXPECT_EQ(alone(request).finish, FinishReason::kLength);
  EXPECT_EQ(batcher->stats().steps, 0u);
}

TEST_F(BatcherTest, AResumedSequenceGoesOnWithTheSameBits) {
  std::vector<SequenceRequest> requests = varied_requests();
  requests[0].sampling.presence_penalty = 0.5f;
  requests[1].sampling.min_tokens = 6;
  requests[1].ignore_eos = false;
  requests[3].stop = {"no such text", "e"};
  for (SequenceRequest& request : requests) {
    const Outcome whole = alone(request);
    ASSERT_GT(whole.tokens.size(), 0u);
    for (std::size_t cut = 0; cut <= whole.tokens.size(); ++cut) {
      const auto middle = whole.tokens.begin() + static_cast<std::ptrdiff_t>(cut);
      request.generated.assign(whole.tokens.begin(), middle);
      const Outcome rest = alone(request);
      EXPECT_EQ(rest.tokens, std::vector<std::int32_t>(middle, whole.tokens.end()));
      EXPECT_EQ(rest.finish, whole.finish);
      EXPECT_EQ(rest.stop_string, whole.stop_string);
      std::string text;
      for (std::size_t i = cut; i < whole.texts.size(); ++i) text += whole.texts[i];
      EXPECT_EQ(rest.text, text);
      EXPECT_TRUE(same_bits(rest.logprobs, std::span(whole.logprobs).subspan(cut)));
    }
  }
}

TEST_F(BatcherTest, OutputThatIsCompleteEndsAtOnceAndOutputBeyondItsEndIsRefused) {
  SequenceRequest request = request_for("What is 47 + 385?");
  request.stop = {"32"};
  request.generated = alone(request).tokens;
  const Outcome complete = alone(request);
  EXPECT_EQ(complete.finish, FinishReason::kStop);
  EXPECT_EQ(complete.stop_string, 0);
  EXPECT_TRUE(complete.tokens.empty());
  EXPECT_EQ(complete.text, "");
  EXPECT_EQ(batcher->stats().steps, 0u);

  request.generated.push_back(request.generated.front());
  EXPECT_EQ(refusal(request).code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal(request).message, HasSubstr("after the end"));
}

TEST_F(BatcherTest, ObserversSeeTheRoutingOfEveryRow) {
  PairCounter counter;
  start();
  batcher->observe(&counter);
  submit(request_for("Hello"));
  finish();
  const auto& config = demo().config();
  EXPECT_EQ(counter.pairs, batcher->stats().rows * config.layers * config.gate.used);
}

}  // namespace
}  // namespace conclave::engine
