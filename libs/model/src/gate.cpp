#include "conclave/model/gate.hpp"

#include <algorithm>
#include <limits>

namespace conclave::model {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void softmax(const kernels::KernelTable& kernels, float* x, std::size_t n) {
  const float sum = kernels.exp_sum(x, n, kernels.max(x, n));
  for (std::size_t i = 0; i < n; ++i) x[i] /= sum;
}

// The index of the largest value that is not taken; the lowest one among equals. Always finds one:
// values that compare to nothing (NaN) are as good as any.
std::uint32_t best_free(std::span<const float> values, const std::vector<char>& taken) {
  std::size_t best = values.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (taken[i] == 0 && (best == values.size() || values[i] > values[best])) best = i;
  }
  return static_cast<std::uint32_t>(best);
}

// Marks as taken the experts of all but the best groups. A group's score is the sum of its two
// best.
void drop_groups(const GateConfig& config, std::span<const float> scores,
                 std::vector<char>& taken) {
  const std::size_t size = config.experts / config.groups;
  std::vector<float> group_scores;
  for (std::uint32_t group = 0; group < config.groups; ++group) {
    float first = kNever;
    float second = kNever;
    for (const float score : scores.subspan(group * size, size)) {
      if (score > first) {
        second = first;
        first = score;
      } else if (score > second) {
        second = score;
      }
    }
    group_scores.push_back(size > 1 ? first + second : first);
  }
  std::vector<char> kept(config.groups, 0);
  for (std::uint32_t i = 0; i < config.groups_used; ++i) kept[best_free(group_scores, kept)] = 1;
  for (std::size_t i = 0; i < scores.size(); ++i) taken[i] = kept[i / size] == 0 ? 1 : 0;
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
  std::vector<float> scores(logits, logits + config.experts);
  if (!bias.empty()) kernels.axpy(1.0f, bias.data(), bias.size(), scores.data());

  std::vector<char> taken(config.experts, 0);
  if (config.groups > 1) drop_groups(config, scores, taken);
  for (std::uint32_t i = 0; i < config.used; ++i) {
    experts[i] = best_free(scores, taken);
    taken[experts[i]] = 1;
    weights[i] = logits[experts[i]];
  }

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
