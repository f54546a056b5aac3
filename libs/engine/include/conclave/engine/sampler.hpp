// From logits to the next token. Every choice is a pure function of (logits, parameters, position,
// tokens so far): no state, no clock, no shared generator (promise 1).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

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

/// No vocabulary is sorted: maxima of blocks bound what top-k and min-p can leave, the mass of all
/// what top-p can. Best first means by falling logit, equal ones by rising id. A probability is
/// exp((logit - best) / temperature) in single precision, relative to the best one's. They are
/// added in double precision, in the order of KernelTable::exp_masses and blocks from the first one
/// up; for top-p's set, and for the draw from it, in that of BestFirst.
///
/// One user at a time: scratch room is inside, at most 24 bytes a token of the vocabulary; a
/// SamplerPool has one for each thread. Tokens of parameters and context are inside the vocabulary.
class Sampler {
 public:
  explicit Sampler(const kernels::KernelTable& kernels);
  ~Sampler();
  Sampler(Sampler&& other) noexcept;
  Sampler& operator=(Sampler&&) = delete;

  /// kCorruptData: a logit is infinite or no number, as broken weights make them. The message has
  /// the position.
  static base::Status check(std::span<const float> logits, std::uint64_t position);

  /// The next token. Equal logits go to the lower id. Errors as `check`; kInvalidArgument: every
  /// token is blocked.
  base::Result<std::int32_t> sample(std::span<const float> logits, const SamplingParams& params,
                                    const SampleContext& context);

  /// The log-probability of `token` and those of the `count` most likely tokens, of logits that
  /// pass `check`.
  TokenLogprobs logprobs(std::span<const float> logits, std::int32_t token, std::uint32_t count);

 private:
  class Work;
  std::unique_ptr<Work> work_;
};

}  // namespace conclave::engine
