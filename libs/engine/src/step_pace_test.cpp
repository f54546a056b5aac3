#include "conclave/engine/step_pace.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;
using std::chrono::microseconds;

// A machine: microseconds of a step of so many rows that decode, and so much work on prompts.
using Machine = std::function<double(std::uint32_t decodes, std::uint32_t work)>;

double plain(std::uint32_t decodes, std::uint32_t work) {
  return 5000.0 + 300.0 * decodes + 25.0 * work;
}
// The first rows make it read all weights, later ones cost little more.
double of_experts(std::uint32_t decodes, std::uint32_t work) {
  return 4000.0 + 2000.0 * std::log2(1.0 + decodes + work) + 20.0 * work;
}

struct StepPaceTest : testing::Test {
  std::uint32_t step(const Machine& machine, std::uint32_t decodes) {
    const std::uint32_t rows = pace.work(decodes).value_or(512);
    took = machine(decodes, rows);
    pace.took(microseconds(static_cast<std::int64_t>(took)), decodes, rows);
    return rows;
  }

  StepPace pace{1.5};
  double took = 0;
};

TEST_F(StepPaceTest, SaysNothingUntilItIsTold) {
  EXPECT_EQ(pace.work(8), std::nullopt);
  pace.took(microseconds(5000), 8, 0);
  EXPECT_NE(pace.work(8), std::nullopt);
}

TEST_F(StepPaceTest, PromptsAreFreeWhileNothingDecodes) {
  pace.took(microseconds(5000), 8, 0);
  EXPECT_EQ(pace.work(0), std::nullopt);
}

TEST_F(StepPaceTest, MeasuresDecodingAloneBeforeItMixes) {
  pace.took(microseconds(90'000), 0, 512);  // a prompt alone
  EXPECT_EQ(pace.work(8), 0u);
  pace.took(microseconds(5000), 8, 0);
  EXPECT_EQ(pace.work(8), 32u);
  EXPECT_EQ(pace.work(9), 32u);
  EXPECT_EQ(pace.work(20), 0u);  // another load
  EXPECT_EQ(pace.work(2), 0u);
}

TEST_F(StepPaceTest, ComesNearItsBoundAndKeepsIt) {
  for (const Machine& machine : {Machine(plain), Machine(of_experts)}) {
    for (const std::uint32_t decodes : {4u, 16u, 64u}) {
      pace = StepPace(1.5);
      const double alone = machine(decodes, 0);
      pace.took(microseconds(static_cast<std::int64_t>(alone)), decodes, 0);
      double longest = 0;
      std::uint32_t rows = 0;
      for (int i = 0; i < 100; ++i) {
        rows += step(machine, decodes);
        longest = std::max(longest, took);
      }
      // The first step is a guess.
      EXPECT_LE(longest, std::max(1.55 * alone, machine(decodes, 32)));
      std::uint32_t possible = 0;
      while (machine(decodes, possible + 1) <= 1.5 * alone) ++possible;
      EXPECT_GE(rows, 100 * 0.8 * possible);
    }
  }
}

TEST_F(StepPaceTest, MeasuresAgainFromTimeToTime) {
  pace.took(microseconds(5000), 8, 0);
  int without = 0;
  for (int i = 0; i < 330; ++i) without += step(plain, 8) == 0;
  EXPECT_EQ(without, 10);
}

// As where answers are short: how many decode is different in each step.
TEST_F(StepPaceTest, PromptsAreReadWhileTheLoadSwings) {
  pace.took(microseconds(5000), 8, 0);
  std::uint32_t rows = 0;
  for (int i = 0; i < 300; ++i) rows += step(plain, i % 2 == 0 ? 24 : 8);
  EXPECT_GE(rows, 99u * 32);
}

TEST_F(StepPaceTest, FollowsAMachineThatBecomesSlower) {
  pace.took(microseconds(7400), 8, 0);
  for (int i = 0; i < 50; ++i) step(plain, 8);
  const Machine slower = [](std::uint32_t decodes, std::uint32_t work) {
    return plain(decodes, 0) + 100.0 * work;
  };
  for (int i = 0; i < 20; ++i) step(slower, 8);
  EXPECT_LE(took, 1.55 * slower(8, 0));
}

TEST_F(StepPaceTest, OneDisturbedStepDoesNotStopPrompts) {
  pace.took(microseconds(20'000), 32, 0);
  for (int i = 0; i < 20; ++i) step(plain, 32);
  pace.took(microseconds(900'000), 32, 32);
  int steps = 0;
  while (step(plain, 32) <= 32) ++steps;
  EXPECT_LE(steps, 32);
}

TEST_F(StepPaceTest, NumbersThatMakeNoSenseDoNotBreakIt) {
  pace.took(microseconds(0), 8, 0);
  pace.took(microseconds(-5), 8, 32);
  pace.took(microseconds(0), 8, 0);
  EXPECT_GE(pace.work(8).value_or(0), 16u);
}

// A short prompt in every step: what was to be measured never is, and long ones shall go on.
TEST_F(StepPaceTest, PromptsAreReadWhereItsWordIsNeverKept) {
  pace.took(microseconds(5000), 8, 0);
  std::uint32_t rows = 0;
  for (int i = 0; i < 100; ++i) {
    rows += pace.work(8).value_or(0);
    pace.was_exceeded(8);
  }
  EXPECT_GE(rows, 90u * 32);
}

struct BatcherPaceTest : BatchTest {
  // One step that takes as long as a plain machine; returns its work on prompts.
  std::uint64_t timed_step() {
    const std::uint64_t before = experts.rows_run;
    const auto decodes = static_cast<std::uint32_t>(decoding);
    step();
    const std::uint64_t work = experts.rows_run - before - decoding * kLayers;
    batcher->step_took(
        microseconds(static_cast<std::int64_t>(plain(decodes, static_cast<std::uint32_t>(work)))));
    return work;
  }

  // A reader that decodes `tokens` tokens, at a pace that is known.
  SequenceId start_reading(const BatcherOptions& options, std::uint32_t tokens) {
    start(options);
    decoding = 0;
    const SequenceId reader = submit(endless("Hello", tokens));
    timed_step();
    decoding = 1;
    for (int i = 0; i < 3; ++i) timed_step();
    return reader;
  }

  static SequenceRequest prompt_of(std::size_t tokens) {
    SequenceRequest prompt = endless("Hello", 3);
    for (std::size_t i = prompt.prompt.size(); i < tokens; ++i) {
      prompt.prompt.push_back(static_cast<std::int32_t>(40 + i * i % 50));
    }
    return prompt;
  }

  // Its first token is there, or the reader has none left.
  [[nodiscard]] bool is_read(SequenceId prompt, SequenceId reader) {
    return !outcomes[prompt].tokens.empty() || outcomes[reader].finish != FinishReason::kNone;
  }

  static constexpr std::uint64_t kLayers = 4;
  // In which rows that are not sampled have work for experts.
  static constexpr std::uint64_t kBusyLayers = kLayers - 1;
  // Half as long again as one row that decodes.
  static constexpr std::uint64_t kPaced = 5300 / 2 / 25;
  std::size_t decoding = 0;
};

TEST_F(BatcherPaceTest, PromptsPassFewLayersAStepWhileOthersDecodeAndAllElse) {
  ASSERT_EQ(demo().config().layers, kLayers);
  SequenceRequest prompt = prompt_of(300);
  const Outcome expected = alone(prompt);
  const SequenceId reader = start_reading({.step_rows_max = 256, .prefill_burst_tokens = 0}, 100);
  const SequenceId late = submit(prompt);
  std::uint64_t most = 0;
  int steps = 0;
  for (; !is_read(late, reader); ++steps) most = std::max(most, timed_step());
  EXPECT_LE(most, kPaced);
  EXPECT_GE(most, kPaced * 3 / 4);
  EXPECT_LE(steps, 30);
  finish();
  expect_same(outcomes[late], expected);

  decoding = 0;
  prompt.prompt[0] = prompt.prompt[1];  // not as cached
  submit(prompt);
  EXPECT_EQ(timed_step(), 256 * kBusyLayers);
}

TEST_F(BatcherPaceTest, WhatAPromptHasPassedIsNotLostWhenNobodyDecodesAnyMore) {
  const SequenceRequest prompt = prompt_of(90);
  const Outcome expected = alone(prompt);
  const SequenceId reader = start_reading({.prefill_burst_tokens = 0}, 20);
  const SequenceId late = submit(prompt);
  const std::uint64_t before = experts.rows_run;
  timed_step();
  timed_step();
  batcher->cancel(reader);
  decoding = 0;
  while (outcomes[late].tokens.empty()) timed_step();
  EXPECT_EQ(experts.rows_run - before, 89 * kBusyLayers + (1 + 2) * kLayers);
  finish();
  expect_same(outcomes[late], expected);
}

TEST_F(BatcherPaceTest, ScoresOfAPromptAreTheSameInLayers) {
  SequenceRequest prompt = prompt_of(200);
  prompt.prompt_logprobs = true;
  prompt.top_logprobs = 1;
  const Outcome expected = alone(prompt);
  const SequenceId reader = start_reading({.prefill_burst_tokens = 0}, 100);
  const SequenceId late = submit(prompt);
  while (!is_read(late, reader)) timed_step();
  finish();
  expect_same(outcomes[late], expected);
}

TEST_F(BatcherPaceTest, AChunkEndsWithItsSequence) {
  const SequenceRequest prompt = prompt_of(200);
  const Outcome expected = alone(prompt);
  for (const bool fails : {false, true}) {
    const SequenceId reader = start_reading({.prefill_burst_tokens = 0}, 100);
    const SequenceId first = submit(prompt);
    timed_step();
    timed_step();
    if (fails) {
      experts.fail_calls = 1;
    } else {
      batcher->cancel(first);
    }
    step();
    EXPECT_EQ(outcomes[first].finish, fails ? FinishReason::kError : FinishReason::kCancelled);
    EXPECT_EQ(outcomes[reader].finish, fails ? FinishReason::kError : FinishReason::kNone);
    const SequenceId again = submit(prompt);
    finish();
    expect_same(outcomes[again], expected);
  }
}

TEST_F(BatcherPaceTest, AChunkThatGivesWayIsComputedAgain) {
  SequenceRequest prompt = prompt_of(120);
  prompt.priority = 5;
  const Outcome expected = alone(prompt);
  start_reading({.sequences_max = 2, .prefill_burst_tokens = 0}, 60);
  const SequenceId late = submit(prompt);
  timed_step();
  submit(request_for("What is 12 - 7?", 2));  // there is no place for three
  finish();
  EXPECT_EQ(batcher->stats().preemptions, 1u);
  expect_same(outcomes[late], expected);
}

TEST_F(BatcherPaceTest, ShortPromptsAreReadAtOnce) {
  const SequenceRequest prompt = prompt_of(150);
  const Outcome expected = alone(prompt);
  start_reading({.prefill_burst_tokens = 256}, 60);
  const SequenceId late = submit(prompt);
  EXPECT_EQ(timed_step(), 128 * kBusyLayers);
  EXPECT_EQ(timed_step(), 21 * kBusyLayers + kLayers);
  EXPECT_EQ(outcomes[late].tokens.size(), 1u);
  finish();
  expect_same(outcomes[late], expected);
}

TEST_F(BatcherPaceTest, TheMoreShortPromptsWaitTheMoreOfThemAStepTakes) {
  const SequenceRequest prompt = prompt_of(150);
  const Outcome expected = alone(prompt);
  start_reading({.prefix_cache = false, .prefill_burst_tokens = 256}, 60);
  std::vector<SequenceId> late;
  for (int i = 0; i < 4; ++i) late.push_back(submit(prompt));
  EXPECT_EQ(timed_step(), 298 * kBusyLayers + 2 * kLayers);  // half of 600 rows
  EXPECT_EQ(timed_step(), 149 * kBusyLayers + 3 * kLayers);  // of 300, and two that decode
  EXPECT_EQ(timed_step(), 128 * kBusyLayers + 3 * kLayers);
  finish();
  for (const SequenceId id : late) expect_same(outcomes[id], expected);
}

TEST_F(BatcherPaceTest, ALongPromptDoesNotBeginWithTheFewRowsThatBurstsLeave) {
  const SequenceRequest longest = prompt_of(600);
  const Outcome expected = alone(longest);
  start_reading({.step_rows_max = 256, .prefix_cache = false, .prefill_burst_tokens = 256}, 200);
  for (int i = 0; i < 2; ++i) submit(prompt_of(200));
  const SequenceId late = submit(longest);
  EXPECT_EQ(timed_step(), 199 * kBusyLayers + kLayers);  // 55 rows are left
  finish();
  expect_same(outcomes[late], expected);
}

TEST_F(BatcherPaceTest, TheLongerAPromptTheSmallerItsBurst) {
  const auto bursts_of = [&](std::size_t tokens) {
    const SequenceId reader =
        start_reading({.prefix_cache = false, .prefill_burst_tokens = 256}, 100);
    const SequenceId late = submit(prompt_of(tokens));
    int bursts = 0;
    while (!is_read(late, reader)) bursts += timed_step() > 2 * kPaced ? 1 : 0;
    return bursts;
  };
  EXPECT_EQ(bursts_of(100), 1);
  EXPECT_EQ(bursts_of(256), 2);
  EXPECT_EQ(bursts_of(312), 2);  // 200 of them
  EXPECT_EQ(bursts_of(412), 1);
  EXPECT_EQ(bursts_of(512), 0);
}

TEST_F(BatcherPaceTest, ShortPromptsWithoutEndDoNotStopALongOne) {
  start_reading({.prefix_cache = false, .prefill_burst_tokens = 64}, 400);
  const SequenceId longest = submit(prompt_of(300));
  int steps = 0;
  while (outcomes[longest].tokens.empty() && steps < 100) {
    submit(request_for(std::string(30, 'y'), 1));
    timed_step();
    ++steps;
  }
  EXPECT_LT(steps, 100);
}

}  // namespace
}  // namespace conclave::engine
