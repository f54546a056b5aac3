#include "conclave/model/gate.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace conclave::model {
namespace {

using testing::ElementsAre;
using testing::FloatNear;

struct Selection {
  std::vector<std::uint32_t> experts;
  std::vector<float> weights;
};

Selection select(const GateConfig& config, std::vector<float> logits,
                 std::vector<float> bias = {}) {
  Selection out{std::vector<std::uint32_t>(config.used), std::vector<float>(config.used)};
  select_experts(config, kernels::kernel_table(kernels::best_isa()), logits.data(), bias,
                 out.experts.data(), out.weights.data());
  return out;
}

GateConfig gate(std::uint32_t experts, std::uint32_t used) {
  GateConfig config;
  config.experts = experts;
  config.used = used;
  return config;
}

TEST(GateTest, SoftmaxPicksTheBestAndDividesByTheirSum) {
  const auto out = select(gate(4, 2), {0.0f, 2.0f, 1.0f, -1.0f});
  EXPECT_THAT(out.experts, ElementsAre(1u, 2u));
  const float best = 1.0f / (1.0f + std::exp(-1.0f));
  EXPECT_THAT(out.weights, ElementsAre(FloatNear(best, 1e-6f), FloatNear(1.0f - best, 1e-6f)));
}

TEST(GateTest, WithoutNormWeightsAreTheProbabilitiesTimesTheScale) {
  GateConfig config = gate(2, 1);
  config.normalize = false;
  config.scale = 2.5f;
  const auto out = select(config, {0.0f, 0.0f});
  EXPECT_THAT(out.experts, ElementsAre(0u));
  EXPECT_THAT(out.weights, ElementsAre(FloatNear(1.25f, 1e-6f)));
}

TEST(GateTest, ABiasDecidesTheChoiceButNeverAWeight) {
  GateConfig config = gate(3, 1);
  config.function = GateFunction::kSigmoid;
  config.normalize = false;
  const auto out = select(config, {3.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 0.6f});
  EXPECT_THAT(out.experts, ElementsAre(2u));
  EXPECT_THAT(out.weights, ElementsAre(FloatNear(0.5f, 1e-6f)));
}

TEST(GateTest, SoftmaxOfTheSelectedOnly) {
  GateConfig config = gate(3, 2);
  config.function = GateFunction::kSoftmaxOfSelected;
  config.normalize = false;
  const auto out = select(config, {1.0f, 100.0f, 100.0f});
  EXPECT_THAT(out.experts, ElementsAre(1u, 2u));
  EXPECT_THAT(out.weights, ElementsAre(FloatNear(0.5f, 1e-6f), FloatNear(0.5f, 1e-6f)));
}

TEST(GateTest, OnlyTheBestGroupsTakePart) {
  GateConfig config = gate(6, 2);
  config.function = GateFunction::kSigmoid;
  config.groups = 3;
  config.groups_used = 1;
  // Expert 0 is the best of all, but the two best of group 1 weigh more together.
  const auto out = select(config, {2.0f, -9.0f, 1.5f, 1.0f, 0.0f, 0.0f});
  EXPECT_THAT(out.experts, ElementsAre(2u, 3u));
}

TEST(GateTest, EqualScoresGoToTheLowerIndex) {
  EXPECT_THAT(select(gate(4, 3), {1.0f, 1.0f, 1.0f, 1.0f}).experts, ElementsAre(0u, 1u, 2u));
}

TEST(GateTest, VanishingScoresDoNotDivideByZero) {
  GateConfig config = gate(2, 2);
  config.function = GateFunction::kSigmoid;
  for (const float weight : select(config, {-80.0f, -80.0f}).weights) {
    EXPECT_TRUE(std::isfinite(weight));
  }
}

TEST(GateTest, NaNStillPicksDistinctExperts) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto out = select(gate(3, 3), {nan, nan, nan});
  EXPECT_THAT(out.experts, testing::UnorderedElementsAre(0u, 1u, 2u));
}

// The choice by sorting, from the scores as they are.
std::vector<std::uint32_t> sorted_choice(const GateConfig& config, std::vector<float> scores) {
  const std::size_t size = config.experts / config.groups;
  const auto best_first = [](const std::vector<float>& values) {
    std::vector<std::uint32_t> order(values.size());
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return values[a] > values[b]; });
    return order;
  };
  std::vector<float> group_scores;
  for (std::size_t group = 0; group < config.groups; ++group) {
    std::vector<float> of(scores.begin() + static_cast<std::ptrdiff_t>(group * size),
                          scores.begin() + static_cast<std::ptrdiff_t>((group + 1) * size));
    std::sort(of.rbegin(), of.rend());
    group_scores.push_back(size > 1 ? of[0] + of[1] : of[0]);
  }
  const auto groups = best_first(group_scores);
  for (std::size_t i = config.groups_used; i < groups.size(); ++i) {
    std::fill_n(scores.begin() + static_cast<std::ptrdiff_t>(groups[i] * size), size, -1e30f);
  }
  auto order = best_first(scores);
  order.resize(config.used);
  return order;
}

TEST(GateTest, ChoosesWhatSortingWouldForAnyShape) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  struct Shape {
    std::uint32_t experts, used, groups, groups_used;
  };
  for (const Shape shape : {Shape{64, 8, 1, 1}, Shape{128, 8, 1, 1}, Shape{60, 4, 1, 1},
                            Shape{256, 8, 8, 4}, Shape{160, 6, 8, 3}, Shape{6, 6, 6, 6},
                            Shape{1000, 10, 1, 1}, Shape{2048, 16, 1024, 600}}) {
    for (const bool ties : {false, true}) {
      GateConfig config = gate(shape.experts, shape.used);
      config.function = GateFunction::kSoftmaxOfSelected;  // scores are the logits themselves
      config.groups = shape.groups;
      config.groups_used = shape.groups_used;
      std::vector<float> logits(shape.experts);
      std::vector<float> bias(ties ? 0 : shape.experts);
      for (float& logit : logits) {
        logit = ties ? static_cast<float>(random() % 4) : normal(random);
      }
      for (float& value : bias) value = normal(random);
      std::vector<float> scores = logits;
      for (std::size_t i = 0; i < bias.size(); ++i) scores[i] += bias[i];
      EXPECT_EQ(select(config, logits, bias).experts, sorted_choice(config, scores))
          << shape.experts << ' ' << ties;
    }
  }
}

// ---- without some experts ----

struct Present : Selection {
  std::uint32_t replaced = 0;
};

Present select_present(const GateConfig& config, std::vector<float> logits,
                       const std::vector<std::uint32_t>& gone, std::vector<float> bias = {}) {
  Present out;
  out.experts.resize(config.used);
  out.weights.resize(config.used);
  std::vector<std::uint8_t> absent(config.experts, 0);
  for (const std::uint32_t expert : gone) absent[expert] = 1;
  out.replaced =
      select_present_experts(config, kernels::kernel_table(kernels::best_isa()), logits.data(),
                             bias, absent, out.experts.data(), out.weights.data());
  return out;
}

float sum(const std::vector<float>& weights) {
  return std::accumulate(weights.begin(), weights.end(), 0.0f);
}

TEST(GateTest, TheNextBestTakesThePlaceOfAnAbsentExpert) {
  const std::vector<float> logits = {0.0f, 3.0f, 2.0f, 1.0f};
  const Present out = select_present(gate(4, 2), logits, {2});
  EXPECT_EQ(out.replaced, 1u);
  EXPECT_THAT(out.experts, ElementsAre(1u, 3u));
  const float best = 1.0f / (1.0f + std::exp(-2.0f));
  EXPECT_THAT(out.weights, ElementsAre(FloatNear(best, 1e-6f), FloatNear(1.0f - best, 1e-6f)));
}

TEST(GateTest, TheBestExpertIsNeverReplaced) {
  const Present out = select_present(gate(4, 2), {0.0f, 3.0f, 2.0f, 1.0f}, {1});
  EXPECT_EQ(out.replaced, 0u);
  EXPECT_THAT(out.experts, ElementsAre(1u, 2u));

  const Present both = select_present(gate(4, 2), {0.0f, 3.0f, 2.0f, 1.0f}, {1, 2});
  EXPECT_EQ(both.replaced, 1u);
  EXPECT_THAT(both.experts, ElementsAre(1u, 3u));
}

TEST(GateTest, WeightsThatAreNotNormalizedKeepTheirSum) {
  GateConfig config = gate(5, 3);
  config.normalize = false;
  config.scale = 2.0f;
  const std::vector<float> logits = {0.5f, 3.0f, 2.0f, 1.0f, 0.0f};
  const Selection all = select(config, logits);
  const Present out = select_present(config, logits, {2, 3});
  EXPECT_THAT(out.experts, ElementsAre(1u, 0u, 4u));
  EXPECT_NEAR(sum(out.weights), sum(all.weights), 1e-6f);
}

TEST(GateTest, TheBestExpertStaysEvenIfItsGroupIsNoneOfTheBestAnyMore) {
  GateConfig config = gate(6, 2);
  config.function = GateFunction::kSigmoid;
  config.groups = 3;
  config.groups_used = 1;
  // Of group 1 the best is left alone; group 2 is then the better one.
  const Present out = select_present(config, {-9.0f, -9.0f, 3.0f, 2.9f, 2.0f, 1.9f}, {3});
  EXPECT_EQ(out.replaced, 1u);
  EXPECT_THAT(out.experts, ElementsAre(2u, 4u));
}

TEST(GateTest, WhereTooFewExpertsAreLeftTheBestCountsAlone) {
  const Present out = select_present(gate(4, 3), {0.0f, 3.0f, 2.0f, 1.0f}, {0, 2, 3});
  EXPECT_EQ(out.replaced, 2u);
  EXPECT_THAT(out.experts, ElementsAre(1u, 1u, 1u));
  EXPECT_THAT(out.weights, ElementsAre(FloatNear(1.0f, 1e-6f), 0.0f, 0.0f));
}

TEST(GateTest, AbsentExpertsThatWereNotChosenChangeNoBit) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  for (const auto function :
       {GateFunction::kSoftmax, GateFunction::kSigmoid, GateFunction::kSoftmaxOfSelected}) {
    GateConfig config = gate(32, 4);
    config.function = function;
    config.groups = function == GateFunction::kSigmoid ? 4 : 1;
    config.groups_used = config.groups == 1 ? 1 : 2;
    std::vector<float> logits(config.experts);
    for (float& logit : logits) logit = normal(random);
    const Selection all = select(config, logits);
    std::vector<std::uint32_t> others;
    for (std::uint32_t e = 0; e < config.experts; ++e) {
      if (std::ranges::find(all.experts, e) == all.experts.end()) others.push_back(e);
    }
    const Present out = select_present(config, logits, others);
    EXPECT_EQ(out.replaced, 0u);
    EXPECT_EQ(out.experts, all.experts);
    EXPECT_EQ(out.weights, all.weights);
  }
}

}  // namespace
}  // namespace conclave::model
