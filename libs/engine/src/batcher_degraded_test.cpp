// Experts that nobody has: tokens do without them, say so, and leave nothing behind for others.
#include <algorithm>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;
using base::ErrorCode;

struct BatcherDegradedTest : BatchTest {
  // Every second expert of all layers but the first.
  void lose_many() {
    for (std::uint32_t layer = 1; layer < demo().config().layers; ++layer) {
      for (std::uint32_t e = 0; e < demo().config().gate.experts; e += 2) experts.lose(layer, e);
    }
  }
};

TEST_F(BatcherDegradedTest, WithAllExpertsNothingIsDegraded) {
  const Outcome whole = alone(endless("Hello", 8));
  EXPECT_EQ(whole.degraded, 0u);
  EXPECT_EQ(batcher->stats().degraded_pairs, 0u);
}

TEST_F(BatcherDegradedTest, NextBestExpertsGiveATextAndTheEventsSaySo) {
  lose_many();
  const Outcome outcome = alone(endless("Hello", 8));
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  EXPECT_EQ(outcome.tokens.size(), 8u);
  EXPECT_GT(outcome.degraded, 0u);
  EXPECT_EQ(batcher->stats().degraded_pairs, outcome.degraded);
}

TEST_F(BatcherDegradedTest, DegradedBitsDoNotDependOnTheBatchEither) {
  lose_many();
  std::vector<Outcome> apart;
  for (const SequenceRequest& request : varied_requests()) apart.push_back(alone(request));
  start();
  std::vector<SequenceId> ids;
  for (const SequenceRequest& request : varied_requests()) ids.push_back(submit(request));
  finish();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    expect_same(outcomes[ids[i]], apart[i]);
    EXPECT_EQ(outcomes[ids[i]].degraded, apart[i].degraded);
  }
}

TEST_F(BatcherDegradedTest, TheBestExpertIsWaitedFor) {
  for (std::uint32_t e = 0; e < demo().config().gate.experts; ++e) experts.lose(1, e);
  const Outcome outcome = alone(endless("Hello", 2));
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  EXPECT_GT(experts.waited, 0);
}

TEST_F(BatcherDegradedTest, WhatWasComputedWithoutThemServesNobodyLater) {
  const SequenceRequest request = endless(std::string(100, 'z'), 24);
  const Outcome exact = alone(request);

  start();
  lose_many();
  const SequenceId first = submit(request);
  finish();
  EXPECT_GT(outcomes[first].degraded, 0u);
  experts.recover();
  const SequenceId second = submit(request);
  finish();

  expect_same(outcomes[second], exact);
  EXPECT_EQ(outcomes[second].degraded, 0u);
}

TEST_F(BatcherDegradedTest, WhatWasExactBeforeIsStillShared) {
  const SequenceRequest request = endless(std::string(100, 'z'), 40);
  const Outcome exact = alone(request);

  start();
  const SequenceId first = submit(request);
  while (outcomes[first].tokens.size() < 8) step();
  lose_many();
  finish();
  EXPECT_GT(outcomes[first].degraded, 0u);
  experts.recover();
  const SequenceId second = submit(request);
  finish();

  EXPECT_GT(outcomes[second].cached_tokens, 64u);
  expect_same(outcomes[second], exact);
}

TEST_F(BatcherDegradedTest, OneThatGivesItsBlocksBackGoesOn) {
  lose_many();
  // Room for one of them at a time to grow to its end.
  start({.kv_tokens_max = 160});
  const SequenceId one = submit(endless(std::string(40, 'a'), 64));
  const SequenceId other = submit(endless(std::string(40, 'b'), 64));
  finish();
  for (const SequenceId id : {one, other}) {
    EXPECT_EQ(outcomes[id].finish, FinishReason::kLength);
    EXPECT_EQ(outcomes[id].tokens.size(), 64u);
  }
  EXPECT_GT(batcher->stats().preemptions, 0u);
}

TEST_F(BatcherDegradedTest, AnUnavailableBackendThatKnowsNoMoreEndsTheStep) {
  experts.fail_calls = 1;
  const Outcome outcome = alone(endless("Hello", 4));
  EXPECT_EQ(outcome.finish, FinishReason::kError);
  EXPECT_EQ(outcome.error.code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::engine
