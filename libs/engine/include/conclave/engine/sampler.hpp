// From logits to the next token. Every choice is a pure function of (logits, parameters, position):
// no state, no clock, no shared generator (promise 1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/kernels/kernel_table.hpp"

namespace conclave::engine {

/// Applied in this order (as vLLM does): temperature, min-p, top-k, top-p, then one draw.
struct SamplingParams {
  float temperature = 0.0f;  // 0: always the most likely token. At most 100.
  float min_p = 0.0f;        // [0, 1]: drops tokens below this share of the best one's probability
  std::uint32_t top_k = 0;   // keeps the k best; 0: all
  float top_p = 1.0f;        // (0, 1]: keeps the smallest set of the best with this probability
  std::uint64_t seed = 0;

  /// Calls v(name, member, least, most, help) for each parameter: the one place that names them.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("temperature", temperature, 0.0f, 100.0f, "Randomness; 0 takes the most likely token");
    v("top-k", top_k, 0u, 1u << 30, "Sample among the K most likely tokens (0: all)");
    v("top-p", top_p, 1e-6f, 1.0f, "Sample among the most likely tokens of this probability");
    v("min-p", min_p, 0.0f, 1.0f, "Drop tokens below this share of the best one's probability");
    v("seed", seed, std::uint64_t{0}, ~std::uint64_t{0}, "Same seed, same text");
  }
};

/// kInvalidArgument naming the parameter that is out of its range.
base::Status validate(const SamplingParams& params);

struct TokenLogprob {
  std::int32_t id = 0;
  float logprob = 0.0f;
};

/// One user at a time: scratch room is inside.
class Sampler {
 public:
  explicit Sampler(const kernels::KernelTable& kernels) : kernels_(kernels) {}

  /// The token for `position` (that of the token to come). Equal logits go to the lower id.
  /// kCorruptData: a logit is infinite or no number, as broken weights make them.
  base::Result<std::int32_t> sample(std::span<const float> logits, const SamplingParams& params,
                                    std::uint64_t position);

  /// The `count` most likely tokens, best first, with log-softmax of the plain logits.
  std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, std::uint32_t count);

 private:
  const kernels::KernelTable& kernels_;
  std::vector<float> probabilities_;
  std::vector<std::int32_t> candidates_;
};

}  // namespace conclave::engine
