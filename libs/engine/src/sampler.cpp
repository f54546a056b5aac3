#include "conclave/engine/sampler.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <ranges>
#include <string>

#include "conclave/engine/philox.hpp"

namespace conclave::engine {
namespace {

using base::ErrorCode;
using base::fail;

constexpr float kBlocked = -std::numeric_limits<float>::infinity();

// Orders ids by falling value, then rising id: a strict total order for finite values.
struct Better {
  std::span<const float> values;
  bool operator()(std::int32_t a, std::int32_t b) const {
    const float x = values[static_cast<std::size_t>(a)];
    const float y = values[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  }
};

// Moves the shortest best-first prefix whose mass reaches `share` of the whole to the front.
void keep_top_p(std::vector<std::int32_t>& candidates, const Better& better, float share) {
  double mass = 0.0;
  const auto value = [&](std::int32_t id) {
    return double{better.values[static_cast<std::size_t>(id)]};
  };
  for (const std::int32_t id : candidates) mass += value(id);
  const auto worse = [&](std::int32_t a, std::int32_t b) { return better(b, a); };
  std::make_heap(candidates.begin(), candidates.end(), worse);
  auto end = candidates.end();
  double kept = 0.0;
  while (end != candidates.begin()) {
    std::pop_heap(candidates.begin(), end, worse);
    --end;
    kept += value(*end);
    if (kept >= share * mass) break;
  }
  candidates.erase(candidates.begin(), end);
  std::reverse(candidates.begin(), candidates.end());
}

// The `count` best ids, in any order: a heap of so many, its worst on top, over one pass of the
// ids, which rise.
template <class Ids>
std::vector<std::int32_t> best_of(const Ids& ids, const Better& better, std::size_t count) {
  std::vector<std::int32_t> best;
  float least = 0.0f;  // the value of the worst one kept
  const auto value = [&](std::int32_t id) { return better.values[static_cast<std::size_t>(id)]; };
  for (const std::int32_t id : ids) {
    if (best.size() == count) {
      if (count == 0 || value(id) <= least) continue;
      std::pop_heap(best.begin(), best.end(), better);
      best.pop_back();
    }
    best.push_back(id);
    std::push_heap(best.begin(), best.end(), better);
    least = value(best.front());
  }
  return best;
}

float penalised(float logit, const SamplingParams& params, std::uint32_t output) {
  if (params.repetition_penalty != 1.0f) {
    logit = logit > 0.0f ? logit / params.repetition_penalty : logit * params.repetition_penalty;
  }
  if (output > 0) {
    logit -= params.frequency_penalty * static_cast<float>(output);
    logit -= params.presence_penalty;
  }
  // Stays finite, as the logits were: what follows compares and subtracts.
  return std::clamp(logit, -std::numeric_limits<float>::max(), std::numeric_limits<float>::max());
}

}  // namespace

base::Status Sampler::check(std::span<const float> logits, std::uint64_t position) {
  constexpr std::uint32_t kExponent = 0x7f800000u;  // all ones in inf and NaN only
  std::uint32_t broken = 0;
  for (const float logit : logits) {
    broken |= (std::bit_cast<std::uint32_t>(logit) & kExponent) == kExponent ? 1u : 0u;
  }
  if (broken == 0) return {};
  return fail(ErrorCode::kCorruptData, "a logit at position " + std::to_string(position) +
                                           " is infinite or not a number: the weights are broken");
}

base::Result<std::int32_t> Sampler::sample(std::span<const float> logits,
                                           const SamplingParams& params,
                                           const SampleContext& context) {
  CONCLAVE_TRY_VOID(check(logits, context.position));
  const std::span<const float> adjusted = adjust(logits, params, context);
  const float best = kernels_.max(adjusted.data(), adjusted.size());
  if (best == kBlocked) {
    return fail(ErrorCode::kInvalidArgument,
                "min-tokens leaves no token to choose: every one of them would end the text");
  }
  if (params.temperature <= 0.0f) {
    const auto first = std::find(adjusted.begin(), adjusted.end(), best);
    return static_cast<std::int32_t>(first - adjusted.begin());
  }

  find_candidates(adjusted, best, params);
  const auto value = [&](std::int32_t id) {
    return double{probabilities_[static_cast<std::size_t>(id)]};
  };
  double mass = 0.0;
  for (const std::int32_t id : candidates_) mass += value(id);
  double left = uniform_draw(params.seed, context.position) * mass;
  for (const std::int32_t id : candidates_) {
    left -= value(id);
    if (left < 0.0) return id;
  }
  return candidates_.back();  // rounding ate the last sliver
}

// The logits with everything that acts on single tokens; a copy only if there is any.
std::span<const float> Sampler::adjust(std::span<const float> logits, const SamplingParams& params,
                                       const SampleContext& context) {
  const bool penalties = context.counts != nullptr && params.has_penalties();
  if (params.logit_bias.empty() && !penalties && context.blocked.empty()) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  const auto at = [&](std::int32_t token) -> float& {
    return adjusted_[static_cast<std::size_t>(token)];
  };
  for (const LogitBias& entry : params.logit_bias) at(entry.token) += entry.bias;
  if (penalties) {
    for (const TokenCounts::Entry& entry : context.counts->entries()) {
      at(entry.token) = penalised(at(entry.token), params, entry.output);
    }
  }
  for (const std::int32_t token : context.blocked) at(token) = kBlocked;
  return adjusted_;
}

// candidates_ = the ids that min-p, top-k and top-p leave; probabilities_ relative to the best
// token's, which is 1.
void Sampler::find_candidates(std::span<const float> logits, float best,
                              const SamplingParams& params) {
  probabilities_.assign(logits.begin(), logits.end());
  for (float& p : probabilities_) p = (p - best) / params.temperature;
  kernels_.exp_sum(probabilities_.data(), probabilities_.size(), 0.0f);

  candidates_.clear();
  for (std::size_t i = 0; i < probabilities_.size(); ++i) {
    // The kernel's exp never gives 0: blocked tokens are left out by their logit.
    if (probabilities_[i] >= params.min_p && logits[i] != kBlocked) {
      candidates_.push_back(static_cast<std::int32_t>(i));
    }
  }
  const Better better{probabilities_};
  if (params.top_k > 0 && params.top_k < candidates_.size()) {
    candidates_ = best_of(candidates_, better, params.top_k);
    std::sort(candidates_.begin(), candidates_.end());
  }
  if (params.top_p < 1.0f) keep_top_p(candidates_, better, params.top_p);
}

TokenLogprobs Sampler::logprobs(std::span<const float> logits, std::int32_t token,
                                std::uint32_t count) {
  probabilities_.assign(logits.begin(), logits.end());
  const float best = kernels_.max(logits.data(), logits.size());
  const float sum = kernels_.exp_sum(probabilities_.data(), probabilities_.size(), best);
  // Extended precision: the same rounded result with any math library.
  const auto log_sum = static_cast<float>(std::log(static_cast<long double>(sum)));
  const auto logprob = [&](std::int32_t id) {
    return logits[static_cast<std::size_t>(id)] - best - log_sum;
  };
  TokenLogprobs out{token, logprob(token), {}};
  const Better better{logits};
  const auto all = std::views::iota(std::int32_t{0}, static_cast<std::int32_t>(logits.size()));
  std::vector<std::int32_t> best_ids = best_of(all, better, count);
  std::sort(best_ids.begin(), best_ids.end(), better);
  for (const std::int32_t id : best_ids) out.top.push_back({id, logprob(id)});
  return out;
}

}  // namespace conclave::engine
