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

}  // namespace

void select_experts(const GateConfig& config, const kernels::KernelTable& kernels, float* logits,
                    std::span<const float> bias, std::uint32_t* experts, float* weights) {
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
  Room<float> biased(config.experts);
  std::span<const float> scores(logits, config.experts);
  if (!bias.empty()) {
    for (std::size_t i = 0; i < config.experts; ++i) biased.data()[i] = logits[i] + bias[i];
    scores = {biased.data(), config.experts};
  }
  if (config.groups > 1) {
    choose_in_groups(config, kernels, scores, experts);
  } else {
    choose(kernels, scores, config.used, experts);
  }
  for (std::uint32_t i = 0; i < config.used; ++i) weights[i] = logits[experts[i]];

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

}  // namespace conclave::model
