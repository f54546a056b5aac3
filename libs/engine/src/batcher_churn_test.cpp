// Requests that share beginnings come, go, fail and give way in an order drawn at random: whoever
// ends by himself says what he says alone, and nothing stays held.
#include <random>

#include "testing_batch.hpp"

namespace conclave::engine {
namespace {

using namespace testing_batch;

constexpr std::uint32_t kBlock = model::kKvBlockTokens;

struct BatcherChurnTest : BatchTest {
  std::uint32_t draw(std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); }

  // A few beginnings, lengths around whole blocks, and everything that has state of its own.
  SequenceRequest request() {
    SequenceRequest request = endless("", 1 + draw(60));
    const std::uint32_t beginning = draw(3);
    const std::size_t size = kBlock * (1 + draw(6)) + draw(3) - 1;
    request.prompt.clear();
    const std::size_t common = draw(2) == 0 ? size : draw(static_cast<std::uint32_t>(size));
    while (request.prompt.size() < size) {
      const std::size_t at = request.prompt.size();
      request.prompt.push_back(
          static_cast<std::int32_t>(40 + (at * 7 + (at < common ? beginning : 3 + draw(2))) % 50));
    }
    request.sampling = {.temperature = static_cast<float>(draw(2)), .seed = draw(4)};
    if (draw(4) == 0) request.sampling.repetition_penalty = 1.3f;
    if (draw(4) == 0) request.stop = {"e", "tt"};
    if (draw(4) == 0) request.cache_salt = "other";
    if (draw(4) == 0) request.prompt_logprobs = true;
    if (draw(8) == 0 && request.prompt_logprobs) request.max_tokens = 0;
    request.ignore_eos = draw(4) != 0;
    request.priority = static_cast<std::int32_t>(draw(3));
    return request;
  }

  std::mt19937 random{1};
};

TEST_F(BatcherChurnTest, WhoeverEndsSaysWhatHeSaysAlone) {
  std::uint64_t preempted = 0;
  std::uint64_t cached = 0;
  for (std::uint32_t round = 0; round < 12; ++round) {
    std::vector<SequenceRequest> requests;
    std::vector<Outcome> expected;
    for (int i = 0; i < 14; ++i) {
      requests.push_back(request());
      expected.push_back(alone(requests.back()));
    }
    start({.sequences_max = 2 + draw(8),
           .step_rows_max = 10 + draw(60),
           .kv_tokens_max = (9 + draw(12)) * kBlock,
           .prefix_cache = draw(6) != 0,
           .prefill_burst_tokens = draw(3) * kBlock});
    std::map<SequenceId, std::size_t> ids;
    for (std::size_t next = 0; next < requests.size() || batcher->has_work();) {
      if (next < requests.size() && draw(3) == 0) {
        const auto id = batcher->submit(requests[next]);
        if (id) ids.emplace(*id, next);
        ++next;
      }
      if (!ids.empty() && draw(40) == 0) {
        batcher->cancel(
            std::next(ids.begin(), draw(static_cast<std::uint32_t>(ids.size())))->first);
      }
      if (draw(100) == 0) experts.fail_calls = 1;
      step();
      batcher->step_took(std::chrono::microseconds(100 + draw(1000)));
    }
    finish();
    for (const auto& [id, i] : ids) {
      SCOPED_TRACE(std::to_string(round) + ": " + std::to_string(i));
      const Outcome& outcome = outcomes[id];
      ASSERT_NE(outcome.finish, FinishReason::kNone);
      const bool whole =
          outcome.finish == FinishReason::kStop || outcome.finish == FinishReason::kLength;
      if (whole) {
        expect_same(outcome, expected[i]);
      } else {
        ASSERT_LE(outcome.tokens.size(), expected[i].tokens.size());
        EXPECT_TRUE(
            std::equal(outcome.tokens.begin(), outcome.tokens.end(), expected[i].tokens.begin()));
        EXPECT_TRUE(expected[i].text.starts_with(outcome.text));
      }
    }
    preempted += batcher->stats().preemptions;
    cached += batcher->stats().cached_tokens;
  }
  EXPECT_GT(preempted, 10u);
  EXPECT_GT(cached, 300u);
}

}  // namespace
}  // namespace conclave::engine
