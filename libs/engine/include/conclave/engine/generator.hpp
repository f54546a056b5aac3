// Generates text for one or many prompts at once: steps that mix prompt chunks and single tokens of
// all sequences. No queue and no admission: the caller brings the whole batch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/local_model.hpp"
#include "conclave/engine/sampler.hpp"

namespace conclave::engine {

/// Most rows of one step: prompts are computed in chunks of this many tokens over all sequences.
/// Beyond about 512 rows the weights are read no less often per row.
inline constexpr std::size_t kStepRowsMax = 512;

struct GenerateRequest {
  std::vector<std::int32_t> prompt;  // at least one token
  std::uint32_t max_tokens = 16;
  SamplingParams sampling;
  std::uint32_t top_logprobs = 0;  // alternatives to report for each token
  bool ignore_eos = false;         // go on past tokens that end the text
};

enum class FinishReason { kStop, kLength };

struct Generation {
  std::vector<std::int32_t> tokens;                     // without the token that ended the text
  std::vector<std::vector<TokenLogprob>> top_logprobs;  // one list a token, if asked for
  FinishReason finish = FinishReason::kLength;
};

class Generator {
 public:
  /// The model must outlive the generator.
  explicit Generator(LocalModel& model);

  /// Called as soon as a token of a sequence is known; false stops that sequence (kStop).
  using OnToken = std::function<bool(std::size_t sequence, std::int32_t token)>;

  /// Runs all requests to their ends. kInvalidArgument: an empty prompt, tokens outside the
  /// vocabulary, bad sampling parameters, or prompt + max_tokens beyond the model's context;
  /// kCorruptData: the model's numbers overflow (Sampler::sample).
  base::Result<std::vector<Generation>> run(std::span<const GenerateRequest> requests,
                                            const OnToken& on_token = {});

  /// See Forward::observe.
  void observe(RoutingObserver* observer) { forward_.observe(observer); }

 private:
  struct Sequence;

  base::Status check(const GenerateRequest& request) const;
  void fill_step(std::vector<Sequence>& sequences);
  base::Status accept(Sequence& sequence, std::span<const float> logits, const OnToken& on_token);

  LocalModel& model_;
  Forward forward_;
  Sampler sampler_;
  std::vector<StepRow> rows_;
  std::vector<std::size_t> samplers_;  // the sequence of each row that wants logits
};

}  // namespace conclave::engine
