// What is computed for a sequence, for whoever pays for it.
#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;

struct BatcherCostTest : BatchTest {
  // Of each row that is sampled; others have no business in the last layer.
  static std::uint64_t pairs() {
    const model::ModelConfig& config = demo().config();
    return std::uint64_t{config.layers - config.dense_layers} * config.gate.used;
  }
  static std::uint64_t unsampled_pairs() { return pairs() - demo().config().gate.used; }
  // Of a prompt and so many rows of tokens after it.
  static std::uint64_t pairs(const SequenceRequest& request, std::size_t further) {
    return (request.prompt.size() - 1) * unsampled_pairs() + (1 + further) * pairs();
  }
  static std::uint64_t calls() { return demo().config().layers - demo().config().dense_layers; }
};

TEST_F(BatcherCostTest, EveryRowHasItsPairsAndTheLastTokenIsNoRow) {
  const SequenceRequest request = endless("Hello", 8);
  const Outcome outcome = alone(request);
  EXPECT_EQ(outcome.pairs, pairs(request, 7));
  EXPECT_EQ(outcome.device_us, 0u);  // nobody measures
}

TEST_F(BatcherCostTest, TheTimeOfAStepIsSharedByRowsAndAddsUp) {
  experts.us_per_call = 1001;  // which two sequences do not share evenly
  start();
  const SequenceId one = submit(endless("Hello", 9));
  const SequenceId other = submit(endless("Good morning to all of you", 9));
  finish();

  const std::uint64_t steps = batcher->stats().steps;
  EXPECT_EQ(outcomes[one].device_us + outcomes[other].device_us, steps * calls() * 1001);
  EXPECT_GT(outcomes[one].device_us, 0u);
  EXPECT_GT(outcomes[other].device_us, outcomes[one].device_us);  // its prompt is longer
}

TEST_F(BatcherCostTest, WhatIsCachedCostsNothingAgain) {
  start();
  const SequenceRequest request = endless(std::string(100, 'z'), 4);
  const SequenceId first = submit(request);
  finish();
  const SequenceId second = submit(request);
  finish();

  EXPECT_GT(outcomes[second].cached_tokens, 0u);
  EXPECT_EQ(outcomes[second].pairs,
            outcomes[first].pairs - outcomes[second].cached_tokens * unsampled_pairs());
}

TEST_F(BatcherCostTest, WhoIsCancelledOrFailsHasCostWhatWasComputed) {
  start();
  const SequenceRequest request = endless("Hello", 100);
  const SequenceId cancelled = submit(request);
  while (outcomes[cancelled].tokens.size() < 3) step();
  batcher->cancel(cancelled);
  finish();
  EXPECT_EQ(outcomes[cancelled].finish, FinishReason::kCancelled);
  EXPECT_EQ(outcomes[cancelled].pairs, pairs(request, 2));

  const SequenceId failed = submit(endless("Good evening", 100));
  step();
  const std::uint64_t before = outcomes[failed].pairs;
  experts.fail_calls = 1;
  finish();
  EXPECT_EQ(outcomes[failed].finish, FinishReason::kError);
  EXPECT_EQ(outcomes[failed].pairs, before);
}

}  // namespace
}  // namespace conclave::engine
