// Sequences in too little KV cache: who waits, who gives way, and that nobody can tell from the
// bits.
#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;

constexpr std::uint32_t kBlock = model::kKvBlockTokens;

using BatcherRoomTest = BatchTest;

SequenceRequest of_tokens(std::size_t prompt, std::uint32_t max_tokens, std::uint64_t seed = 0) {
  SequenceRequest request = endless("", max_tokens);
  while (request.prompt.size() < prompt) {
    request.prompt.push_back(
        static_cast<std::int32_t>(40 + (request.prompt.size() * 7 + seed) % 50));
  }
  request.prompt.resize(prompt);
  request.sampling = {.temperature = 1.0f, .seed = seed};
  return request;
}

TEST_F(BatcherRoomTest, SequencesStartWithWhatTheyKnowNotWithTheirWorstCase) {
  const SequenceRequest request = of_tokens(20, 200);  // 14 blocks in the end, 2 to begin with
  start({.kv_tokens_max = 20 * kBlock});
  for (std::uint64_t i = 0; i < 5; ++i) submit(of_tokens(20, 200, i));
  step();
  EXPECT_EQ(batcher->stats().running, 5u);
  EXPECT_EQ(batcher->stats().kv_tokens_used, 10 * kBlock);
}

TEST_F(BatcherRoomTest, WhoDoesNotFitWaitsAndNoneOvertakes) {
  start({.kv_tokens_max = 8 * kBlock});
  const SequenceId first = submit(of_tokens(5 * kBlock, 4, 1));
  const SequenceId second = submit(of_tokens(4 * kBlock, 4, 2));
  const SequenceId third = submit(of_tokens(8, 4, 3));  // would fit beside the first
  step();
  EXPECT_EQ(batcher->stats().running, 1u);
  EXPECT_EQ(batcher->stats().waiting, 2u);
  while (outcomes[first].finish == FinishReason::kNone) {
    EXPECT_FALSE(outcomes.contains(second) || outcomes.contains(third));
    step();
  }
  step();
  EXPECT_EQ(batcher->stats().running, 2u);
  finish();
}

TEST_F(BatcherRoomTest, EachThatRunsKeepsABlockToGrowInto) {
  start({.kv_tokens_max = 6 * kBlock});
  submit(of_tokens(2 * kBlock, 20, 1));
  submit(of_tokens(4 * kBlock, 20, 2));
  step();
  EXPECT_EQ(batcher->stats().running, 1u);
  start({.kv_tokens_max = 7 * kBlock});
  submit(of_tokens(2 * kBlock, 20, 1));
  submit(of_tokens(4 * kBlock, 20, 2));
  step();
  EXPECT_EQ(batcher->stats().running, 2u);
}

TEST_F(BatcherRoomTest, TheYoungestGivesWayAndGoesOnWithTheSameBits) {
  const std::vector<SequenceRequest> requests = {of_tokens(30, 90, 1), of_tokens(30, 90, 2)};
  std::vector<Outcome> expected;
  for (const SequenceRequest& request : requests) expected.push_back(alone(request));
  start({.kv_tokens_max = 10 * kBlock});
  const SequenceId first = submit(requests[0]);
  const SequenceId second = submit(requests[1]);
  std::uint64_t steps_of_first = 0;
  while (outcomes[first].finish == FinishReason::kNone) {
    step();
    ++steps_of_first;
  }
  EXPECT_EQ(steps_of_first, 90u);  // it never waited
  EXPECT_LT(outcomes[second].tokens.size(), 90u);
  EXPECT_EQ(batcher->stats().preemptions, 1u);
  finish();
  expect_same(outcomes[first], expected[0]);
  expect_same(outcomes[second], expected[1]);
  EXPECT_GT(batcher->stats().recomputed_tokens, 0u);
  EXPECT_EQ(batcher->stats().prompt_tokens, 60u);
}

TEST_F(BatcherRoomTest, WhatNobodyHoldsMakesRoomBeforeAnybodyGivesWay) {
  start({.kv_tokens_max = 10 * kBlock});
  submit(of_tokens(9 * kBlock, 4, 1));
  finish();
  EXPECT_EQ(batcher->stats().kv_tokens_known, 9 * kBlock);
  submit(of_tokens(30, 100, 2));
  finish();
  EXPECT_EQ(batcher->stats().preemptions, 0u);
}

// Everything at once in a pool that holds hardly more than the longest of them.
TEST_F(BatcherRoomTest, ManyLongSequencesInATinyPoolAllEndAsAlone) {
  std::vector<SequenceRequest> requests;
  for (std::uint64_t i = 0; i < 12; ++i) {
    SequenceRequest request =
        of_tokens(5 + i * 23 % 100, 60 + static_cast<std::uint32_t>(i * 37 % 90), i);
    request.priority = static_cast<std::int32_t>(i % 3);
    request.top_logprobs = static_cast<std::uint32_t>(i % 2);
    request.prompt_logprobs = i % 4 == 1;
    requests.push_back(std::move(request));
  }
  std::vector<Outcome> expected;
  for (const SequenceRequest& request : requests) expected.push_back(alone(request));

  for (const bool cached : {true, false}) {
    start({.sequences_max = 8,
           .step_rows_max = cached ? 8u : 64u,
           .kv_tokens_max = 16 * kBlock,
           .prefix_cache = cached});
    std::vector<SequenceId> ids;
    for (const SequenceRequest& request : requests) {
      ids.push_back(submit(request));
      step();
    }
    finish();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      SCOPED_TRACE(i);
      expect_same(outcomes[ids[i]], expected[i]);
    }
    EXPECT_GT(batcher->stats().preemptions, 3u);
  }
}

TEST_F(BatcherRoomTest, MemoryTakenBetweenStepsIsAllOfTheCacheInTheEndAndChangesNothing) {
  const SequenceRequest request = of_tokens(20, 30);
  const Outcome expected = alone(request);
  start({.kv_tokens_max = 20'000 * kBlock});
  ASSERT_TRUE(batcher->populate()) << "or Linux is older than 5.14";
  EXPECT_LT(batcher->stats().kv_tokens_populated, batcher->stats().kv_tokens_max);
  const SequenceId id = submit(request);
  step();
  while (batcher->populate()) {
  }
  EXPECT_EQ(batcher->stats().kv_tokens_populated, batcher->stats().kv_tokens_max);
  finish();
  expect_same(outcomes[id], expected);
}

TEST_F(BatcherRoomTest, OneThatGaveWayCanBeCancelledAndTakesNoPlaceInTheQueue) {
  start({.waiting_max = 1, .kv_tokens_max = 8 * kBlock});
  submit(of_tokens(30, 90, 1));
  step();
  const SequenceId second = submit(of_tokens(30, 90, 2));
  while (batcher->stats().preemptions == 0) step();
  EXPECT_EQ(batcher->stats().waiting, 1u);
  const SequenceId third = submit(of_tokens(30, 2, 3));
  EXPECT_EQ(refusal(of_tokens(30, 2, 4)).code, base::ErrorCode::kOverloaded);
  EXPECT_TRUE(batcher->cancel(second));
  finish();
  EXPECT_EQ(outcomes[second].finish, FinishReason::kCancelled);
  EXPECT_EQ(outcomes[third].finish, FinishReason::kLength);
}

}  // namespace
}  // namespace conclave::engine
