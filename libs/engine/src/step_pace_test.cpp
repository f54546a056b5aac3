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

// A machine: microseconds of a step of so many rows of each kind.
using Machine = std::function<double(std::uint32_t decodes, std::uint32_t prompt_rows)>;

double plain(std::uint32_t decodes, std::uint32_t rows) {
  return 5000.0 + 300.0 * decodes + 100.0 * rows;
}
// The first rows make it read all weights, later ones cost little more.
double of_experts(std::uint32_t decodes, std::uint32_t rows) {
  return 4000.0 + 2000.0 * std::log2(1.0 + decodes + rows) + 80.0 * rows;
}

struct StepPaceTest : testing::Test {
  std::uint32_t step(const Machine& machine, std::uint32_t decodes) {
    const std::uint32_t rows = pace.prompt_rows(decodes).value_or(512);
    took = machine(decodes, rows);
    pace.took(microseconds(static_cast<std::int64_t>(took)), decodes, rows);
    return rows;
  }

  StepPace pace{1.5};
  double took = 0;
};

TEST_F(StepPaceTest, SaysNothingUntilItIsTold) {
  EXPECT_EQ(pace.prompt_rows(8), std::nullopt);
  pace.took(microseconds(5000), 8, 0);
  EXPECT_NE(pace.prompt_rows(8), std::nullopt);
}

TEST_F(StepPaceTest, PromptsAreFreeWhileNothingDecodes) {
  pace.took(microseconds(5000), 8, 0);
  EXPECT_EQ(pace.prompt_rows(0), std::nullopt);
}

TEST_F(StepPaceTest, MeasuresDecodingAloneBeforeItMixes) {
  pace.took(microseconds(90'000), 0, 512);  // a prompt alone
  EXPECT_EQ(pace.prompt_rows(8), 0u);
  pace.took(microseconds(5000), 8, 0);
  EXPECT_EQ(pace.prompt_rows(8), 16u);
  EXPECT_EQ(pace.prompt_rows(9), 16u);
  EXPECT_EQ(pace.prompt_rows(20), 0u);  // another load
  EXPECT_EQ(pace.prompt_rows(2), 0u);
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
      // The first step is a guess: a block.
      EXPECT_LE(longest, std::max(1.55 * alone, machine(decodes, 16)));
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
  EXPECT_GE(rows, 99u * 16);
}

TEST_F(StepPaceTest, FollowsAMachineThatBecomesSlower) {
  pace.took(microseconds(7400), 8, 0);
  for (int i = 0; i < 50; ++i) step(plain, 8);
  const Machine slower = [](std::uint32_t decodes, std::uint32_t rows) {
    return plain(decodes, 0) + 400.0 * rows;
  };
  for (int i = 0; i < 20; ++i) step(slower, 8);
  EXPECT_LE(took, 1.55 * slower(8, 0));
}

TEST_F(StepPaceTest, OneDisturbedStepDoesNotStopPrompts) {
  pace.took(microseconds(20'000), 32, 0);
  for (int i = 0; i < 20; ++i) step(plain, 32);
  pace.took(microseconds(900'000), 32, 16);
  int steps = 0;
  while (step(plain, 32) <= 16) ++steps;
  EXPECT_LE(steps, 32);
}

TEST_F(StepPaceTest, NumbersThatMakeNoSenseDoNotBreakIt) {
  pace.took(microseconds(0), 8, 0);
  pace.took(microseconds(-5), 8, 16);
  pace.took(microseconds(0), 8, 0);
  EXPECT_GE(pace.prompt_rows(8).value_or(0), 4u);
}

// A short prompt in every step: what was to be measured never is, and long ones shall go on.
TEST_F(StepPaceTest, PromptsAreReadWhereItsWordIsNeverKept) {
  pace.took(microseconds(5000), 8, 0);
  std::uint32_t rows = 0;
  for (int i = 0; i < 100; ++i) {
    rows += pace.prompt_rows(8).value_or(0);
    pace.was_exceeded(8);
  }
  EXPECT_GE(rows, 90u * 16);
}

struct BatcherPaceTest : BatchTest {
  // One step that takes as long as a plain machine.
  std::uint64_t timed_step() {
    const std::uint64_t before = batcher->stats().rows;
    const auto decodes = static_cast<std::uint32_t>(decoding);
    step();
    const std::uint64_t rows = batcher->stats().rows - before;
    batcher->step_took(microseconds(
        static_cast<std::int64_t>(plain(decodes, static_cast<std::uint32_t>(rows - decodes)))));
    return rows;
  }

  std::size_t decoding = 0;
};

TEST_F(BatcherPaceTest, PromptsComeInSmallPiecesWhileOthersDecodeAndInLargeOnesElse) {
  SequenceRequest reader = endless("Hello", 60);
  SequenceRequest prompt = endless(std::string(600, 'x'), 3);
  const Outcome expected = alone(prompt);
  start({.step_rows_max = 256, .prefill_burst_tokens = 0});
  const SequenceId decoder = submit(reader);
  timed_step();
  decoding = 1;
  for (int i = 0; i < 3; ++i) timed_step();
  const SequenceId late = submit(prompt);
  std::uint64_t most = 0;
  while (outcomes[late].tokens.empty() && outcomes[decoder].finish == FinishReason::kNone) {
    most = std::max(most, timed_step());
  }
  EXPECT_LE(most, 1 + 32u);
  EXPECT_GE(most, 1 + 16u);
  finish();
  expect_same(outcomes[late], expected);

  decoding = 0;
  prompt.prompt[0] = prompt.prompt[1];  // not as cached
  submit(prompt);
  EXPECT_EQ(timed_step(), 256u);
}

TEST_F(BatcherPaceTest, ShortPromptsAreReadAtOnce) {
  SequenceRequest prompt = endless(std::string(150, 'x'), 3);
  const auto tokens = static_cast<std::uint64_t>(prompt.prompt.size());
  ASSERT_GT(tokens, 128u);
  ASSERT_LE(tokens, 256u);
  const Outcome expected = alone(prompt);
  start({.prefill_burst_tokens = 256});
  submit(endless("Hello", 60));
  timed_step();
  decoding = 1;
  for (int i = 0; i < 3; ++i) timed_step();
  const SequenceId late = submit(prompt);
  const std::uint64_t first = timed_step();
  EXPECT_GE(first, 1 + 128u);
  EXPECT_LE(first, 1 + 128u + 32u);  // and what the pace allows
  EXPECT_EQ(first + timed_step(), 2 + tokens);
  EXPECT_EQ(outcomes[late].tokens.size(), 1u);
  finish();
  expect_same(outcomes[late], expected);
}

TEST_F(BatcherPaceTest, TheLongerAPromptTheSmallerItsBurst) {
  const auto bursts_of = [&](std::size_t tokens) {
    start({.prefix_cache = false, .prefill_burst_tokens = 256});
    decoding = 0;
    const SequenceId reader = submit(endless("Hello", 100));
    timed_step();
    decoding = 1;
    for (int i = 0; i < 3; ++i) timed_step();
    SequenceRequest prompt = endless("Hello", 3);
    prompt.prompt.resize(tokens, prompt.prompt.front());
    const SequenceId late = submit(prompt);
    int bursts = 0;
    while (outcomes[late].tokens.empty() && outcomes[reader].finish == FinishReason::kNone) {
      bursts += timed_step() > 64 ? 1 : 0;
    }
    return bursts;
  };
  EXPECT_EQ(bursts_of(100), 1);
  EXPECT_EQ(bursts_of(256), 2);
  EXPECT_EQ(bursts_of(312), 2);  // 200 of them
  EXPECT_EQ(bursts_of(412), 1);
  EXPECT_EQ(bursts_of(512), 0);
}

TEST_F(BatcherPaceTest, ShortPromptsWithoutEndDoNotStopALongOne) {
  start({.prefix_cache = false, .prefill_burst_tokens = 64});
  submit(endless("Hello", 400));
  timed_step();
  decoding = 1;
  const SequenceId longest = submit(endless(std::string(300, 'x'), 2));
  int steps = 0;
  while (outcomes[longest].tokens.empty() && steps < 100) {
    submit(request_for(std::string(60, 'y'), 1));
    timed_step();
    ++steps;
  }
  EXPECT_LT(steps, 100);
}

}  // namespace
}  // namespace conclave::engine
