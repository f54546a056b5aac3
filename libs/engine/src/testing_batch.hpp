// What tests of the batcher share: the demo model (512 byte-like tokens, 4 layers, 16 experts),
// requests to it, and a batcher whose events are gathered by sequence.
#pragma once

#include <gmock/gmock.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conclave/engine/batcher.hpp"
#include "conclave/engine/local_model.hpp"

namespace conclave::engine::testing_batch {

/// Loaded once, with two threads.
LocalModel& demo();
std::vector<std::int32_t> encode(const std::string& text);
/// A chat's first turn, in the demo model's template.
std::vector<std::int32_t> question(const std::string& text);
/// Greedy, with log-probabilities.
SequenceRequest request_for(const std::string& text, std::uint32_t max_tokens = 24);
/// Requests that differ in everything that could leak from one into another.
std::vector<SequenceRequest> varied_requests();
/// Goes on to its max_tokens, whatever the model says.
SequenceRequest endless(const std::string& text, std::uint32_t max_tokens);

/// All that the events of one sequence said.
struct Outcome {
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> top;
  std::vector<TokenLogprobs> prompt;
  std::string text;
  std::vector<std::string> texts;  // event by event
  FinishReason finish = FinishReason::kNone;
  std::int32_t stop_token = tokenizer::kNoToken;
  std::int32_t stop_string = -1;
  std::uint32_t cached_tokens = 0;
  std::uint32_t degraded = 0;
  std::uint64_t pairs = 0;
  std::uint64_t device_us = 0;
  base::Error error;

  void add(const TokenEvent& event);
};

bool same_bits(std::span<const float> a, std::span<const float> b);
/// Tokens, text, end, and the bits of every log-probability.
void expect_same(const Outcome& a, const Outcome& b);

/// The experts of the demo model, with faults at the test's word.
class FaultyExperts final : public model::ExpertBackend {
 public:
  base::Status run(std::uint32_t layer, const float* x, std::size_t rows,
                   std::span<const model::ExpertPair> pairs,
                   std::span<const float*> outputs) override;
  void start(std::size_t batch, std::uint32_t layer, const float* x, std::size_t rows,
             std::span<const model::ExpertPair> pairs) override;
  base::Status finish(std::size_t batch, std::span<const float*> outputs) override;
  std::span<const std::uint8_t> absent(std::uint32_t layer) const override;
  std::uint64_t absences() const override { return absences_; }
  std::uint64_t device_us() const override { return device_us_; }
  bool is_remote() const override { return remote; }

  /// From now on nobody has the expert; who asks for it for the first time is told, and who asks
  /// again has waited until it was there.
  void lose(std::uint32_t layer, std::uint32_t expert);
  /// All are there again.
  void recover();

  bool remote = false;
  int fail_calls = 0;
  std::uint64_t rows_run = 0;                 // of all calls that were computed
  std::uint64_t us_per_call = 0;              // that devices say they take
  std::optional<std::uint32_t> poisoned_row;  // gets NaN from its experts
  int waited = 0;                             // for a best expert

 private:
  struct Layer {
    std::vector<std::uint8_t> lost, known;  // by expert
  };
  std::vector<Layer> layers_;
  std::uint64_t absences_ = 0;
  std::array<std::uint64_t, model::kMicroBatchesMax> gated_{};  // absences_ when a gate looked
  std::uint64_t device_us_ = 0;
  std::vector<float> poison_;
};

/// Counts the pairs that rows were routed to.
struct PairCounter final : RoutingObserver {
  void routed(std::uint32_t, const model::Routing& routing) override {
    pairs += routing.experts.size();
  }
  std::size_t pairs = 0;
};

class BatchTest : public testing::Test {
 protected:
  /// A new batcher over a new pool.
  void start(const BatcherOptions& options = {});
  SequenceId submit(SequenceRequest request);
  base::Error refusal(SequenceRequest request);
  void step();
  /// Steps until nothing is left, and then nothing is held.
  void finish();
  /// One request in a batcher of its own.
  Outcome alone(SequenceRequest request);

  FaultyExperts experts;
  std::unique_ptr<model::KvPool> pool;
  std::optional<Batcher> batcher;
  std::map<SequenceId, Outcome> outcomes;
};

}  // namespace conclave::engine::testing_batch
