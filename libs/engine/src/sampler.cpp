#include "conclave/engine/sampler.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "best_first.hpp"
#include "conclave/engine/philox.hpp"

namespace conclave::engine {
namespace {

using base::ErrorCode;
using base::fail;

constexpr float kBlocked = -std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();

base::Error broken_logits(std::uint64_t position) {
  return {ErrorCode::kCorruptData, "a logit at position " + std::to_string(position) +
                                       " is infinite or not a number: the weights are broken"};
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
  return std::clamp(logit, kLowest, -kLowest);
}

// Finite floats in their order as integers, and back.
std::int32_t order_of(float x) {
  const auto bits = std::bit_cast<std::int32_t>(x);
  return bits >= 0 ? bits : std::numeric_limits<std::int32_t>::min() - bits;
}

float at_order(std::int32_t order) {
  return std::bit_cast<float>(order >= 0 ? order
                                         : std::numeric_limits<std::int32_t>::min() - order);
}

// How logits become probabilities.
struct Scale {
  float best;
  float temperature;

  // The logarithm of a probability, as the kernels compute it.
  [[nodiscard]] float exponent(float logit) const { return (logit - best) / temperature; }

  // The least logit of at least this exponent (0 or less): logits that pass it are exactly those
  // whose exponent does, as rounding never changes an order.
  [[nodiscard]] float least_logit(float least_exponent) const {
    std::int64_t below = std::int64_t{order_of(kLowest)} - 1;
    std::int64_t enough = order_of(best);
    while (enough - below > 1) {
      const std::int64_t middle = below + (enough - below) / 2;
      const float logit = at_order(static_cast<std::int32_t>(middle));
      (exponent(logit) >= least_exponent ? enough : below) = middle;
    }
    return at_order(static_cast<std::int32_t>(enough));
  }
};

// Extended precision: the same rounded result with any math library.
float rounded_log(double x) { return static_cast<float>(std::log(static_cast<long double>(x))); }

}  // namespace

class Sampler::Work {
 public:
  explicit Work(const kernels::KernelTable& kernels) : kernels_(kernels) {}

  base::Result<std::int32_t> sample(std::span<const float> logits, const SamplingParams& params,
                                    const SampleContext& context);
  TokenLogprobs logprobs(std::span<const float> logits, std::int32_t token, std::uint32_t count);

 private:
  base::Result<std::span<const float>> adjust(std::span<const float> logits,
                                              const SamplingParams& params,
                                              const SampleContext& context);
  void set_adjusted(std::int32_t token, float logit);
  bool find_maxima(std::span<const float> logits, float* copy);
  [[nodiscard]] float best() const;
  [[nodiscard]] std::int32_t first_of(std::span<const float> logits, float value) const;

  float least_of_best(std::size_t count);
  void take_at_least(std::span<const float> logits, float least);
  void take_top_k_and_min_p(std::span<const float> logits, const SamplingParams& params,
                            const Scale& scale);
  void keep_best(std::size_t count);
  [[nodiscard]] bool better(std::size_t a, std::size_t b) const {
    return values_[a] != values_[b] ? values_[a] > values_[b] : a < b;
  }
  [[nodiscard]] std::span<const float> values() const { return {values_.data(), taken_}; }
  [[nodiscard]] std::int32_t id(std::size_t candidate) const { return ids_[candidate]; }

  double add_masses(std::span<const float> logits, const Scale& scale);
  std::size_t draw_in_order(std::span<const float> logits, const Scale& scale, double left);
  std::size_t draw_best_first(const Scale& scale, double bound, double uniform);

  const kernels::KernelTable& kernels_;
  std::vector<float> adjusted_;
  std::vector<float> maxima_;  // of each block of kMaximaBlock logits
  std::vector<float> group_maxima_;
  std::vector<std::size_t> stale_;    // blocks whose largest logit has been lowered
  std::vector<double> masses_;        // of each block of kMassBlock logits
  std::size_t taken_ = 0;             // candidates:
  std::vector<std::int32_t> ids_;     // they rise
  std::vector<float> values_;         // logits
  std::vector<float> probabilities_;  // or weights of another kind
  BestFirst best_first_;
};

bool Sampler::Work::find_maxima(std::span<const float> logits, float* copy) {
  maxima_.resize((logits.size() + kernels::kMaximaBlock - 1) / kernels::kMaximaBlock);
  return kernels_.block_maxima(logits.data(), logits.size(), maxima_.data(), copy);
}

// 0 added: -0 and 0 are equal, and which one a register finds is its own affair.
float Sampler::Work::best() const { return kernels_.max(maxima_.data(), maxima_.size()) + 0.0f; }

std::int32_t Sampler::Work::first_of(std::span<const float> logits, float value) const {
  const auto block = std::find(maxima_.begin(), maxima_.end(), value) - maxima_.begin();
  const auto begin = logits.begin() + block * std::ptrdiff_t{kernels::kMaximaBlock};
  return static_cast<std::int32_t>(std::find(begin, logits.end(), value) - logits.begin());
}

// The logits with everything that acts on single tokens, and their maxima; a copy only if there is
// any.
base::Result<std::span<const float>> Sampler::Work::adjust(std::span<const float> logits,
                                                           const SamplingParams& params,
                                                           const SampleContext& context) {
  const bool penalties = context.counts != nullptr && params.has_penalties();
  const bool plain = params.logit_bias.empty() && !penalties && context.blocked.empty();
  if (!plain) adjusted_.resize(logits.size());
  if (!find_maxima(logits, plain ? nullptr : adjusted_.data())) {
    return fail(broken_logits(context.position));
  }
  if (plain) return logits;

  stale_.clear();
  const auto at = [&](std::int32_t token) { return adjusted_[static_cast<std::size_t>(token)]; };
  for (const LogitBias& entry : params.logit_bias) {
    set_adjusted(entry.token, at(entry.token) + entry.bias);
  }
  if (penalties) {
    for (const TokenCounts::Entry& entry : context.counts->entries()) {
      set_adjusted(entry.token, penalised(at(entry.token), params, entry.output));
    }
  }
  for (const std::int32_t token : context.blocked) set_adjusted(token, kBlocked);
  for (const std::size_t block : stale_) {
    const std::size_t begin = block * kernels::kMaximaBlock;
    maxima_[block] = kernels_.max(adjusted_.data() + begin,
                                  std::min(kernels::kMaximaBlock, adjusted_.size() - begin));
  }
  return std::span<const float>(adjusted_);
}

void Sampler::Work::set_adjusted(std::int32_t token, float logit) {
  float& old = adjusted_[static_cast<std::size_t>(token)];
  const std::size_t block = static_cast<std::size_t>(token) / kernels::kMaximaBlock;
  if (logit >= maxima_[block]) {
    maxima_[block] = logit;
  } else if (old == maxima_[block]) {
    stale_.push_back(block);
  }
  old = logit;
}

base::Result<std::int32_t> Sampler::Work::sample(std::span<const float> logits,
                                                 const SamplingParams& params,
                                                 const SampleContext& context) {
  CONCLAVE_TRY(const auto row, adjust(logits, params, context));
  const Scale scale{best(), params.temperature};
  if (scale.best == kBlocked) {
    return fail(ErrorCode::kInvalidArgument,
                "min-tokens leaves no token to choose: every one of them would end the text");
  }
  if (params.temperature <= 0.0f) return first_of(row, scale.best);

  const double uniform = uniform_draw(params.seed, context.position);
  const bool some = params.min_p > 0.0f || (params.top_k > 0 && params.top_k < row.size());
  if (some) take_top_k_and_min_p(row, params, scale);
  const std::span<const float> left = some ? values() : row;
  const double mass = add_masses(left, scale);
  if (params.top_p >= 1.0f) {
    const std::size_t drawn = draw_in_order(left, scale, uniform * mass);
    return some ? id(drawn) : static_cast<std::int32_t>(drawn);
  }

  const double share = params.top_p;
  if (!some) {
    // Tokens of which even a whole vocabulary would not have the mass that top-p drops are all
    // dropped. A thousandth in the exponent is far more than the error of a probability.
    const double dropped = (1.0 - share) * mass / static_cast<double>(row.size());
    take_at_least(row, scale.least_logit(rounded_log(dropped) - 1e-3f));
  }
  return id(draw_best_first(scale, share * mass, uniform));
}

// A logit that at least `count` reach: so many groups of blocks have one. The lowest of all if
// there are fewer blocks.
float Sampler::Work::least_of_best(std::size_t count) {
  if (count > maxima_.size()) return kLowest;
  group_maxima_ = maxima_;
  std::size_t groups = maxima_.size();
  // With four groups a candidate few logits are above the bound for nothing.
  while (groups >= 8 * count) {
    const std::size_t half = groups / 2;
    float* most = group_maxima_.data();
    const float* others = most + (groups - half);
    for (std::size_t i = 0; i < half; ++i) most[i] = others[i] > most[i] ? others[i] : most[i];
    groups -= half;
  }
  const auto begin = group_maxima_.begin();
  const auto place = begin + static_cast<std::ptrdiff_t>(count - 1);
  std::nth_element(begin, place, begin + static_cast<std::ptrdiff_t>(groups), std::greater<>());
  return std::max(kLowest, *place);
}

// The candidates: all of at least this logit.
void Sampler::Work::take_at_least(std::span<const float> logits, float least) {
  const std::size_t room = logits.size() + 16;
  if (ids_.size() < room) {
    ids_.resize(room);
    values_.resize(room);
  }
  taken_ = kernels_.at_least(logits.data(), logits.size(), maxima_.data(), least, ids_.data(),
                             values_.data());
}

void Sampler::Work::take_top_k_and_min_p(std::span<const float> logits,
                                         const SamplingParams& params, const Scale& scale) {
  float least = kLowest;  // above what is blocked
  if (params.min_p > 0.0f) least = scale.least_logit(rounded_log(double{params.min_p}));
  if (params.top_k > 0) least = std::max(least, least_of_best(params.top_k));
  take_at_least(logits, least);
  if (params.top_k > 0) keep_best(params.top_k);
}

// Leaves the `count` best candidates, ids still rising.
void Sampler::Work::keep_best(std::size_t count) {
  if (count >= taken_) return;
  probabilities_.assign(taken_, 1.0f);
  best_first_.load(values(), probabilities_);
  const std::size_t worst = best_first_.find(static_cast<double>(count)).index;
  const float least = values_[worst];
  std::size_t kept = 0;
  for (std::size_t i = 0; i < taken_; ++i) {
    const bool keep = values_[i] > least || (values_[i] == least && i <= worst);
    ids_[kept] = ids_[i];
    values_[kept] = values_[i];
    kept += keep ? 1 : 0;
  }
  taken_ = kept;
}

double Sampler::Work::add_masses(std::span<const float> logits, const Scale& scale) {
  masses_.resize((logits.size() + kernels::kMassBlock - 1) / kernels::kMassBlock);
  kernels_.exp_masses(logits.data(), logits.size(), scale.best, scale.temperature, masses_.data());
  double sum = 0.0;
  for (const double mass : masses_) sum += mass;
  return sum;
}

// The first one at which the sum is above `left`, after add_masses. The kernel's exp never gives 0:
// what is blocked is left out by its logit, and is no mass that a block's sum would show.
std::size_t Sampler::Work::draw_in_order(std::span<const float> logits, const Scale& scale,
                                         double left) {
  float p[kernels::kMassBlock];
  for (std::size_t block = 0; block < masses_.size(); ++block) {
    if (left >= masses_[block]) {
      left -= masses_[block];
      continue;
    }
    const std::size_t begin = block * kernels::kMassBlock;
    const auto values = logits.subspan(begin, std::min(kernels::kMassBlock, logits.size() - begin));
    kernels_.exp_scaled(values.data(), values.size(), scale.best, scale.temperature, p);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i] == kBlocked) continue;
      left -= double{p[i]};
      if (left < 0.0) return begin + i;
    }
  }
  std::size_t last = logits.size() - 1;  // rounding ate the last sliver
  while (logits[last] == kBlocked) --last;
  return last;
}

// The candidate drawn from the best ones whose mass reaches `bound`.
std::size_t Sampler::Work::draw_best_first(const Scale& scale, double bound, double uniform) {
  probabilities_.resize(taken_);
  kernels_.exp_scaled(values_.data(), taken_, scale.best, scale.temperature, probabilities_.data());
  best_first_.load(values(), probabilities_);
  const BestFirst::Place worst = best_first_.find(bound);
  const double left = uniform * worst.sum;
  const BestFirst::Place drawn =
      best_first_.find(std::nextafter(left, std::numeric_limits<double>::infinity()));
  // Rounding must not lead beyond the set.
  return better(worst.index, drawn.index) ? worst.index : drawn.index;
}

TokenLogprobs Sampler::Work::logprobs(std::span<const float> logits, std::int32_t token,
                                      std::uint32_t count) {
  find_maxima(logits, nullptr);
  const Scale scale{best(), 1.0f};
  const float log_sum = rounded_log(add_masses(logits, scale));
  const auto logprob = [&](float logit) { return logit - scale.best - log_sum; };
  TokenLogprobs out{token, logprob(logits[static_cast<std::size_t>(token)]), {}};
  if (count == 0) return out;
  take_at_least(logits, least_of_best(count));
  keep_best(count);
  std::vector<std::size_t> order(taken_);
  for (std::size_t i = 0; i < taken_; ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [this](std::size_t a, std::size_t b) { return better(a, b); });
  out.top.reserve(taken_);
  for (const std::size_t i : order) out.top.push_back({id(i), logprob(values_[i])});
  return out;
}

Sampler::Sampler(const kernels::KernelTable& kernels) : work_(std::make_unique<Work>(kernels)) {}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&& other) noexcept = default;

base::Status Sampler::check(std::span<const float> logits, std::uint64_t position) {
  constexpr std::uint32_t kExponent = 0x7f800000u;  // all ones in inf and NaN only
  std::uint32_t broken = 0;
  for (const float logit : logits) {
    broken |= (std::bit_cast<std::uint32_t>(logit) & kExponent) == kExponent ? 1u : 0u;
  }
  if (broken == 0) return {};
  return fail(broken_logits(position));
}

base::Result<std::int32_t> Sampler::sample(std::span<const float> logits,
                                           const SamplingParams& params,
                                           const SampleContext& context) {
  return work_->sample(logits, params, context);
}

TokenLogprobs Sampler::logprobs(std::span<const float> logits, std::int32_t token,
                                std::uint32_t count) {
  return work_->logprobs(logits, token, count);
}

}  // namespace conclave::engine
