#include "conclave/model/gate.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

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

}  // namespace
}  // namespace conclave::model
