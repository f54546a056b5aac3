#include "conclave/model/gate.hpp"

#include <algorithm>
#include <limits>

namespace conclave::model {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Values of a row, on the stack for as many experts as models have: choosing allocates nothing.
template <class T>
class Room {
 public:
  explicit Room(std::size_t n) {
    if (n > kUsual) more_.resize(n);
  }
  T* data() { return more_.empty() ? usual_ : more_.data(); }

 private:
  static constexpr std::size_t kUsual = 512;
  T usual_[kUsual];
  std::vector<T> more_;
};

void softmax(const kernels::KernelTable& kernels, float* x, std::size_t n) {
  const float sum = kernels.exp_sum(x, n, kernels.max(x, n));
  for (std::size_t i = 0; i < n; ++i) x[i] /= sum;
}

// The `count` best of `scores`, best first. Values that compare to nothing (NaN) are as good as
// any, and chosen once.
void choose(const kernels::KernelTable& kernels, std::span<const float> scores, std::size_t count,
            std::uint32_t* best) {
  Room<std::int64_t> room((scores.size() + 15) / 16 * 16);
  kernels.top_k(scores.data(), scores.size(), count, room.data(), best);
}

float sum_of_two_best(std::span<const float> scores) {
  float first = kNever;
  float second = kNever;
  for (const float score : scores) {
    const float lower = score > first ? first : score;
    first = score > first ? score : first;
    second = lower > second ? lower : second;
  }
  return scores.size() > 1 ? first + second : first;
}

// As choose, from the best groups only. A group's score is the sum of its two best.
void choose_in_groups(const GateConfig& config, const kernels::KernelTable& kernels,
                      std::span<const float> scores, std::uint32_t* best) {
  const std::size_t size = config.experts / config.groups;
  Room<float> group_scores(config.groups);
  for (std::size_t group = 0; group < config.groups; ++group) {
    group_scores.data()[group] = sum_of_two_best(scores.subspan(group * size, size));
  }
  Room<std::uint32_t> groups(config.groups_used);
  choose(kernels, {group_scores.data(), config.groups}, config.groups_used, groups.data());
  std::sort(groups.data(), groups.data() + config.groups_used);

  // Side by side, in the order of their indices, which decides among equals.
  const std::size_t left = config.groups_used * size;
  Room<float> kept(left);
  for (std::size_t i = 0; i < config.groups_used; ++i) {
    std::copy_n(scores.begin() + static_cast<std::ptrdiff_t>(groups.data()[i] * size), size,
                kept.data() + i * size);
  }
  choose(kernels, {kept.data(), left}, config.used, best);
  for (std::uint32_t i = 0; i < config.used; ++i) {
    best[i] = static_cast<std::uint32_t>(groups.data()[best[i] / size] * size + best[i] % size);
  }
}

// logits -> scores, in place.
void score(const GateConfig& config, const kernels::KernelTable& kernels, float* logits) {
  switch (config.function) {
    case GateFunction::kSoftmax:
      softmax(kernels, logits, config.experts);
      break;
    case GateFunction::kSigmoid:
      kernels.sigmoid(logits, config.experts);
      break;
    case GateFunction::kSoftmaxOfSelected:
      break;
  }
}

void choose_any(const GateConfig& config, const kernels::KernelTable& kernels,
                std::span<const float> scores, std::uint32_t* experts) {
  if (config.groups > 1) {
    choose_in_groups(config, kernels, scores, experts);
  } else {
    choose(kernels, scores, config.used, experts);
  }
}

// The weights of the chosen experts, from their scores without bias.
void weigh(const GateConfig& config, const kernels::KernelTable& kernels, const float* scores,
           const std::uint32_t* experts, float* weights) {
  for (std::uint32_t i = 0; i < config.used; ++i) weights[i] = scores[experts[i]];

  if (config.function == GateFunction::kSoftmaxOfSelected) softmax(kernels, weights, config.used);
  if (config.normalize) {
    float sum = 0.0f;
    for (std::uint32_t i = 0; i < config.used; ++i) sum += weights[i];
    // llama.cpp's floor, the smallest normal half: sigmoid scores can all vanish.
    sum = std::max(sum, 6.103515625e-5f);
    for (std::uint32_t i = 0; i < config.used; ++i) weights[i] /= sum;
  }
  for (std::uint32_t i = 0; i < config.used; ++i) weights[i] *= config.scale;
}

float sum_of(const float* weights, std::uint32_t count) {
  float sum = 0.0f;
  for (std::uint32_t i = 0; i < count; ++i) sum += weights[i];
  return sum;
}

// The best `used` of those that are there, `best` first, which counts as there.
void choose_present(const GateConfig& config, const kernels::KernelTable& kernels,
                    std::span<const float> scores, std::span<const std::uint8_t> absent,
                    std::uint32_t best, std::uint32_t* experts) {
  Room<float> present(config.experts);
  for (std::uint32_t e = 0; e < config.experts; ++e) {
    present.data()[e] = absent[e] != 0 && e != best ? kNever : scores[e];
  }
  choose_any(config, kernels, {present.data(), config.experts}, experts);
  // With an expert gone, the best one's group may be none of the best.
  std::uint32_t* const end = experts + config.used;
  std::uint32_t* const found = std::find(experts, end, best);
  std::rotate(experts, found == end ? end - 1 : found, found == end ? end : found + 1);
  experts[0] = best;
}

}  // namespace

void select_experts(const GateConfig& config, const kernels::KernelTable& kernels, float* logits,
                    std::span<const float> bias, std::uint32_t* experts, float* weights) {
  select_present_experts(config, kernels, logits, bias, {}, experts, weights);
}

std::uint32_t select_present_experts(const GateConfig& config, const kernels::KernelTable& kernels,
                                     float* logits, std::span<const float> bias,
                                     std::span<const std::uint8_t> absent, std::uint32_t* experts,
                                     float* weights) {
  score(config, kernels, logits);
  Room<float> biased(config.experts);
  std::span<const float> scores(logits, config.experts);
  if (!bias.empty()) {
    for (std::size_t i = 0; i < config.experts; ++i) biased.data()[i] = logits[i] + bias[i];
    scores = {biased.data(), config.experts};
  }
  choose_any(config, kernels, scores, experts);
  weigh(config, kernels, logits, experts, weights);
  if (absent.empty()) return 0;
  const auto is_absent = [absent](std::uint32_t expert) { return absent[expert] != 0; };
  const auto replaced =
      static_cast<std::uint32_t>(std::count_if(experts + 1, experts + config.used, is_absent));
  if (replaced == 0) return 0;

  const float sum = sum_of(weights, config.used);
  const std::uint32_t best = experts[0];
  choose_present(config, kernels, scores, absent, best, experts);
  weigh(config, kernels, logits, experts, weights);
  for (std::uint32_t i = 1; i < config.used; ++i) {
    if (!is_absent(experts[i])) continue;
    experts[i] = best;
    weights[i] = 0.0f;
  }
  const float left = sum_of(weights, config.used);
  if (left > 0.0f) {
    for (std::uint32_t i = 0; i < config.used; ++i) weights[i] *= sum / left;
  }
  return replaced;
}

}  // namespace conclave::model
