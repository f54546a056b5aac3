// What sequences share: a prefix is computed once, and nobody can tell from the bits.
#include <algorithm>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;
using base::ErrorCode;

constexpr std::uint32_t kBlock = model::kKvBlockTokens;

// Longer than 100 tokens, and one that differs from it behind the first 64.
const std::string kText(100, 'z');
const std::string kOther = std::string(60, 'z') + std::string(40, 'y');

std::uint32_t whole_blocks(std::size_t tokens) {
  return static_cast<std::uint32_t>(tokens) / kBlock * kBlock;
}

struct BatcherPrefixTest : BatchTest {
  // The second of two requests in one batcher.
  Outcome after(const SequenceRequest& first, const SequenceRequest& second,
                const BatcherOptions& options = {}) {
    start(options);
    submit(first);
    finish();
    before = batcher->stats();
    const SequenceId id = submit(second);
    finish();
    return outcomes[id];
  }
  std::uint64_t rows_since() const { return batcher->stats().rows - before.rows; }

  BatcherStats before;
};

TEST_F(BatcherPrefixTest, ARepeatedPromptIsNotComputedAgainAndHasTheSameBits) {
  const SequenceRequest request = endless(kText, 12);
  const Outcome cold = alone(request);
  EXPECT_EQ(cold.cached_tokens, 0u);
  const Outcome warm = after(request, request);
  expect_same(warm, cold);
  const std::uint32_t cached = whole_blocks(request.prompt.size() - 1);
  EXPECT_EQ(warm.cached_tokens, cached);
  EXPECT_EQ(rows_since(), request.prompt.size() - cached + 11);
  EXPECT_EQ(batcher->stats().cached_tokens, cached);
  EXPECT_EQ(batcher->stats().queried_tokens, 2 * request.prompt.size());
}

TEST_F(BatcherPrefixTest, EverySamplingAndChunkHasTheSameBitsFromTheCache) {
  for (SequenceRequest request : varied_requests()) {
    const Outcome cold = alone(request);
    for (const std::uint32_t rows : {3u, 17u, 512u}) {
      expect_same(after(request, request, {.sequences_max = 3, .step_rows_max = rows}), cold);
    }
  }
}

// A conversation: each turn begins with all that was said before.
TEST_F(BatcherPrefixTest, TheOutputIsThereForTheNextTurn) {
  const SequenceRequest first = endless(kText, 40);
  const Outcome said = alone(first);
  SequenceRequest second = first;
  second.prompt.insert(second.prompt.end(), said.tokens.begin(), said.tokens.end());
  const std::vector<std::int32_t> more = encode("and then?");
  second.prompt.insert(second.prompt.end(), more.begin(), more.end());
  const Outcome cold = alone(second);
  const Outcome warm = after(first, second);
  expect_same(warm, cold);
  EXPECT_EQ(warm.cached_tokens, whole_blocks(first.prompt.size() + said.tokens.size() - 1));
}

TEST_F(BatcherPrefixTest, OnlyWhatIsEqualIsShared) {
  const SequenceRequest first = endless(kText, 8);
  const SequenceRequest second = endless(kOther, 8);
  const auto differ = std::ranges::mismatch(first.prompt, second.prompt).in1;
  const auto equal = static_cast<std::size_t>(differ - first.prompt.begin());
  const Outcome cold = alone(second);
  const Outcome warm = after(first, second);
  expect_same(warm, cold);
  EXPECT_EQ(warm.cached_tokens, whole_blocks(equal));
}

// Of a prompt of whole blocks the last one is computed again: its last row gives the first token.
TEST_F(BatcherPrefixTest, TheLastTokenOfAPromptIsComputed) {
  SequenceRequest request = endless(kText, 4);
  request.prompt.resize(4 * kBlock);
  const Outcome cold = alone(request);
  const Outcome warm = after(request, request);
  expect_same(warm, cold);
  EXPECT_EQ(warm.cached_tokens, 3 * kBlock);
  request.prompt.push_back(request.prompt.front());
  const Outcome longer_cold = alone(request);
  const Outcome longer = after(request, request);
  expect_same(longer, longer_cold);
  EXPECT_EQ(longer.cached_tokens, 4 * kBlock);
}

TEST_F(BatcherPrefixTest, APromptThatIsScoredIsComputed) {
  SequenceRequest request = endless(kText, 3);
  const Outcome plain = alone(request);
  SequenceRequest scored = request;
  scored.prompt_logprobs = true;
  const Outcome cold = alone(scored);
  const Outcome warm = after(request, scored);
  expect_same(warm, cold);
  EXPECT_EQ(warm.prompt.size(), request.prompt.size() - 1);
  EXPECT_EQ(warm.cached_tokens, 0u);
  // And the other way round it is there.
  const Outcome after_scoring = after(scored, request);
  expect_same(after_scoring, plain);
  EXPECT_GT(after_scoring.cached_tokens, 0u);
}

TEST_F(BatcherPrefixTest, OtherSaltsShareNothing) {
  SequenceRequest request = endless(kText, 3);
  SequenceRequest salted = request;
  salted.cache_salt = "tenant a";
  EXPECT_EQ(after(request, salted).cached_tokens, 0u);
  EXPECT_EQ(after(salted, request).cached_tokens, 0u);
  EXPECT_GT(after(salted, salted).cached_tokens, 0u);
  SequenceRequest another = salted;
  another.cache_salt = "tenant b";
  EXPECT_EQ(after(salted, another).cached_tokens, 0u);
  another.cache_salt.assign(kCacheSaltBytesMax + 1, 'x');
  EXPECT_EQ(refusal(another).code, ErrorCode::kInvalidArgument);
}

TEST_F(BatcherPrefixTest, CanBeSwitchedOff) {
  const SequenceRequest request = endless(kText, 3);
  const Outcome cold = alone(request);
  const Outcome again = after(request, request, {.prefix_cache = false});
  expect_same(again, cold);
  EXPECT_EQ(again.cached_tokens, 0u);
  EXPECT_EQ(batcher->stats().queried_tokens, 0u);
  EXPECT_EQ(batcher->stats().kv_tokens_known, 0u);
}

TEST_F(BatcherPrefixTest, WhatStillRunsIsShared) {
  const SequenceRequest request = endless(kText, 30);
  const Outcome cold = alone(request);
  start();
  const SequenceId first = submit(request);
  while (outcomes[first].tokens.size() < 3) step();
  const std::uint64_t used = batcher->stats().kv_tokens_used;
  const SequenceId second = submit(request);
  step();
  EXPECT_EQ(batcher->stats().running, 2u);
  EXPECT_EQ(batcher->stats().kv_tokens_used,
            used + model::kv_blocks_of(request.prompt.size()) * kBlock -
                whole_blocks(request.prompt.size() - 1));
  finish();
  expect_same(outcomes[first], cold);
  expect_same(outcomes[second], cold);
  EXPECT_EQ(outcomes[second].cached_tokens, whole_blocks(request.prompt.size() - 1));
}

// As `n` choices of one prompt come.
TEST_F(BatcherPrefixTest, EqualPromptsThatComeTogetherAreComputedOnce) {
  const SequenceRequest request = endless(kText, 5);
  const Outcome cold = alone(request);
  for (const std::uint32_t rows : {9u, 16u, 29u, 512u}) {
    start({.sequences_max = 8, .step_rows_max = rows});
    std::vector<SequenceId> ids;
    for (int i = 0; i < 8; ++i) ids.push_back(submit(request));
    finish();
    for (const SequenceId id : ids) expect_same(outcomes[id], cold);
    const std::uint32_t shared = whole_blocks(request.prompt.size() - 1);
    const std::uint64_t own = request.prompt.size() - shared;
    EXPECT_EQ(batcher->stats().prompt_tokens, shared + 8 * own) << rows;
    EXPECT_EQ(batcher->stats().cached_tokens, 7u * shared);
  }
}

TEST_F(BatcherPrefixTest, WhatWasForgottenIsComputedAgain) {
  const SequenceRequest request = endless(kText, 4);
  SequenceRequest filler = endless("Hello", 4);
  const Outcome cold = alone(request);
  // Room for the request alone: everything else makes it go.
  const std::uint64_t room = model::kv_blocks_of(request.prompt.size() + 4) * kBlock;
  start({.kv_tokens_max = room});
  submit(request);
  finish();
  filler.prompt = encode(std::string(room - 8, 'q'));
  ASSERT_GT(filler.prompt.size(), room / 2);
  submit(filler);
  finish();
  const SequenceId again = submit(request);
  finish();
  expect_same(outcomes[again], cold);
  EXPECT_LT(outcomes[again].cached_tokens, whole_blocks(request.prompt.size() - 1));
}

TEST_F(BatcherPrefixTest, WhatAFailedStepShouldHaveComputedIsNotShared) {
  const SequenceRequest request = endless(kText, 4);
  const Outcome cold = alone(request);
  start();
  experts.fail_calls = 1;
  const SequenceId failed = submit(request);
  step();
  ASSERT_EQ(outcomes[failed].finish, FinishReason::kError);
  const SequenceId next = submit(request);
  finish();
  expect_same(outcomes[next], cold);
  EXPECT_EQ(outcomes[next].cached_tokens, 0u);
}

TEST_F(BatcherPrefixTest, BrokenNumbersAreNotShared) {
  const SequenceRequest request = endless(kText, 4);
  const Outcome cold = alone(request);
  start();
  experts.poisoned_row = 40;  // of the prompt; its own logits are not looked at
  const SequenceId broken = submit(request);
  step();
  experts.poisoned_row.reset();
  ASSERT_EQ(outcomes[broken].error.code, ErrorCode::kCorruptData);
  const SequenceId next = submit(request);
  finish();
  expect_same(outcomes[next], cold);
  EXPECT_EQ(outcomes[next].cached_tokens, 0u);
}

TEST_F(BatcherPrefixTest, WhatACancelledOneHasComputedIsShared) {
  const SequenceRequest request = endless(kText, 20);
  const Outcome cold = alone(request);
  start({.sequences_max = 1, .step_rows_max = 64});
  const SequenceId gone = submit(request);
  step();
  batcher->cancel(gone);
  const SequenceId next = submit(request);
  finish();
  expect_same(outcomes[next], cold);
  EXPECT_EQ(outcomes[next].cached_tokens, 64u);
}

}  // namespace
}  // namespace conclave::engine
