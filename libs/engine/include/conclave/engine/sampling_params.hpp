// How the next token is chosen: every knob, its range and the order in which they act. Names and
// meanings are vLLM's and OpenAI's, so that clients find what they know.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::engine {

/// Added to the logit of a token before everything else; at +-100 it decides alone for any usual
/// model.
struct LogitBias {
  std::int32_t token = 0;
  float bias = 0.0f;  // [-100, 100]

  friend bool operator==(const LogitBias&, const LogitBias&) = default;
};

/// Most entries of `logit_bias`: what OpenAI's API takes.
inline constexpr std::size_t kLogitBiasMax = 300;

/// Applied in this order (as vLLM does): logit bias, repetition, frequency and presence penalties,
/// min-tokens, temperature, min-p, top-k, top-p, then one draw. Log-probabilities that are reported
/// are those of the plain logits, before all of it.
struct SamplingParams {
  float temperature = 0.0f;  // 0: always the most likely token. At most 100.
  float min_p = 0.0f;        // [0, 1]: drops tokens below this share of the best one's probability
  std::uint32_t top_k = 0;   // keeps the k best; 0: all
  float top_p = 1.0f;        // (0, 1]: keeps the smallest set of the best with this probability
  std::uint64_t seed = 0;
  float presence_penalty = 0.0f;    // [-2, 2]: off the logit of tokens that the output has
  float frequency_penalty = 0.0f;   // [-2, 2]: the same, once for each time it has them
  float repetition_penalty = 1.0f;  // (0, 10]: of tokens in prompt or output, logits above 0 are
                                    // divided by it, others multiplied
  std::uint32_t min_tokens = 0;     // what ends the text is not chosen before so many tokens
  std::vector<LogitBias> logit_bias{};  // at most kLogitBiasMax, each token once

  /// Calls v(name, member, least, most, help) for each parameter that is one number: the one place
  /// that names them.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("temperature", temperature, 0.0f, 100.0f, "Randomness; 0 takes the most likely token");
    v("top-k", top_k, 0u, 1u << 30, "Sample among the K most likely tokens (0: all)");
    v("top-p", top_p, 1e-6f, 1.0f, "Sample among the most likely tokens of this probability");
    v("min-p", min_p, 0.0f, 1.0f, "Drop tokens below this share of the best one's probability");
    v("seed", seed, std::uint64_t{0}, ~std::uint64_t{0}, "Same seed, same text");
    v("presence-penalty", presence_penalty, -2.0f, 2.0f,
      "Lower the logits of tokens that the output has already");
    v("frequency-penalty", frequency_penalty, -2.0f, 2.0f,
      "Lower the logits of tokens for each time that the output has them");
    v("repetition-penalty", repetition_penalty, 1e-6f, 10.0f,
      "Divide the logits of tokens of prompt and output (1: off)");
    v("min-tokens", min_tokens, 0u, 1u << 28, "Tokens before which the text does not end");
  }

  /// True if what the sequence holds already changes its logits.
  [[nodiscard]] bool has_penalties() const {
    return presence_penalty != 0.0f || frequency_penalty != 0.0f || repetition_penalty != 1.0f;
  }
};

/// kInvalidArgument naming the parameter that is out of its range. Tokens of `logit_bias` are held
/// against a vocabulary by whoever has one.
base::Status validate(const SamplingParams& params);

}  // namespace conclave::engine
