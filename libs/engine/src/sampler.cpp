#include "conclave/engine/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "conclave/engine/philox.hpp"

namespace conclave::engine {
namespace {

std::int32_t argmax(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<std::int32_t>(best);
}

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

bool all_finite(std::span<const float> logits) {
  return std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace

base::Status validate(const SamplingParams& params) {
  SamplingParams copy = params;
  base::Status status;
  copy.visit([&](const char* name, auto& value, auto least, auto most, const char*) {
    if (value >= least && value <= most) return;  // NaN is in no range
    status = base::fail(
        base::ErrorCode::kInvalidArgument,
        std::string(name) + " must be " + std::to_string(least) + " to " + std::to_string(most));
  });
  return status;
}

base::Result<std::int32_t> Sampler::sample(std::span<const float> logits,
                                           const SamplingParams& params, std::uint64_t position) {
  if (!all_finite(logits)) {
    return base::fail(base::ErrorCode::kCorruptData,
                      "a logit at position " + std::to_string(position) +
                          " is infinite or not a number: the weights are broken");
  }
  if (params.temperature <= 0.0f) return argmax(logits);

  // Probabilities relative to the best token's, which is 1.
  probabilities_.assign(logits.begin(), logits.end());
  const float best = kernels_.max(logits.data(), logits.size());
  for (float& p : probabilities_) p = (p - best) / params.temperature;
  kernels_.exp_sum(probabilities_.data(), probabilities_.size(), 0.0f);

  candidates_.clear();
  for (std::size_t i = 0; i < probabilities_.size(); ++i) {
    if (probabilities_[i] >= params.min_p) candidates_.push_back(static_cast<std::int32_t>(i));
  }
  const Better better{probabilities_};
  if (params.top_k > 0 && params.top_k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params.top_k, candidates_.end(),
                     better);
    candidates_.resize(params.top_k);
    std::sort(candidates_.begin(), candidates_.end());
  }
  if (params.top_p < 1.0f) keep_top_p(candidates_, better, params.top_p);

  const auto value = [&](std::int32_t id) {
    return double{probabilities_[static_cast<std::size_t>(id)]};
  };
  double mass = 0.0;
  for (const std::int32_t id : candidates_) mass += value(id);
  double left = uniform_draw(params.seed, position) * mass;
  for (const std::int32_t id : candidates_) {
    left -= value(id);
    if (left < 0.0) return id;
  }
  return candidates_.back();  // rounding ate the last sliver
}

std::vector<TokenLogprob> Sampler::top_logprobs(std::span<const float> logits,
                                                std::uint32_t count) {
  if (count == 0) return {};
  probabilities_.assign(logits.begin(), logits.end());
  const float best = kernels_.max(logits.data(), logits.size());
  const float sum = kernels_.exp_sum(probabilities_.data(), probabilities_.size(), best);
  // Extended precision: the same rounded result with any math library.
  const auto log_sum = static_cast<float>(std::log(static_cast<long double>(sum)));
  candidates_.resize(logits.size());
  std::iota(candidates_.begin(), candidates_.end(), 0);
  const std::size_t kept = std::min<std::size_t>(count, logits.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(kept),
                    candidates_.end(), Better{logits});
  std::vector<TokenLogprob> top;
  for (std::size_t i = 0; i < kept; ++i) {
    const std::int32_t id = candidates_[i];
    top.push_back({id, logits[static_cast<std::size_t>(id)] - best - log_sum});
  }
  return top;
}

}  // namespace conclave::engine
