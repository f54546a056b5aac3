// From logits to the next token. Every choice is a pure function of (logits, parameters, position,
// tokens so far): no state, no clock, no shared generator (promise 1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/engine/sampling_params.hpp"
#include "conclave/engine/sequence.hpp"
#include "conclave/engine/token_counts.hpp"
#include "conclave/kernels/kernel_table.hpp"

namespace conclave::engine {

/// What else than its logits decides on a token.
struct SampleContext {
  std::uint64_t position = 0;             // that of the token to come
  const TokenCounts* counts = nullptr;    // for penalties; null: there are none
  std::span<const std::int32_t> blocked;  // tokens that must not be chosen (SamplingParams::
                                          // min_tokens); inside the vocabulary
};

/// One user at a time: scratch room is inside. Tokens of parameters and context are inside the
/// vocabulary.
class Sampler {
 public:
  explicit Sampler(const kernels::KernelTable& kernels) : kernels_(kernels) {}

  /// kCorruptData: a logit is infinite or no number, as broken weights make them. The message has
  /// the position.
  static base::Status check(std::span<const float> logits, std::uint64_t position);

  /// The next token. Equal logits go to the lower id. Errors as `check`; kInvalidArgument: every
  /// token is blocked.
  base::Result<std::int32_t> sample(std::span<const float> logits, const SamplingParams& params,
                                    const SampleContext& context);

  /// The log-probability of `token` and those of the `count` most likely tokens.
  TokenLogprobs logprobs(std::span<const float> logits, std::int32_t token, std::uint32_t count);

 private:
  std::span<const float> adjust(std::span<const float> logits, const SamplingParams& params,
                                const SampleContext& context);
  void find_candidates(std::span<const float> logits, float best, const SamplingParams& params);

  const kernels::KernelTable& kernels_;
  std::vector<float> adjusted_;
  std::vector<float> probabilities_;
  std::vector<std::int32_t> candidates_;
};

}  // namespace conclave::engine
