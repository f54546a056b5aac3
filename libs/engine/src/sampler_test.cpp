#include "conclave/engine/sampler.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <map>

#include "conclave/engine/philox.hpp"

namespace conclave::engine {
namespace {

using testing::ElementsAre;

TEST(PhiloxTest, EqualsThePublishedVectors) {
  // Random123's known answers for philox4x32, 10 rounds.
  EXPECT_THAT(philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(
      philox4x32({0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}, {0xffffffffu, 0xffffffffu}),
      ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(
      philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
      ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(PhiloxTest, DrawsAreUniform) {
  double sum = 0.0;
  for (std::uint64_t position = 0; position < 10000; ++position) {
    const double draw = uniform_draw(42, position);
    ASSERT_GE(draw, 0.0);
    ASSERT_LT(draw, 1.0);
    sum += draw;
  }
  EXPECT_NEAR(sum / 10000.0, 0.5, 0.01);
}

struct SamplerTest : testing::Test {
  Sampler sampler{kernels::kernel_table(kernels::best_isa())};
  std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  SamplingParams params;

  SamplerTest() { params.temperature = 1.0f; }

  std::map<std::int32_t, double> shares(int draws = 20000) {
    std::map<std::int32_t, double> count;
    for (int i = 0; i < draws; ++i) {
      count[sampler.sample(logits, params, static_cast<std::uint64_t>(i)).value()] += 1.0 / draws;
    }
    return count;
  }
};

TEST_F(SamplerTest, ZeroTemperatureTakesTheBestAndTheLowerIdAmongEquals) {
  params.temperature = 0.0f;
  EXPECT_EQ(sampler.sample(logits, params, 0).value(), 0);
  logits = {1.0f, 3.0f, 3.0f};
  EXPECT_EQ(sampler.sample(logits, params, 0).value(), 1);
}

TEST_F(SamplerTest, SharesFollowTheDistribution) {
  const auto share = shares();
  EXPECT_NEAR(share.at(0), 0.50, 0.02);
  EXPECT_NEAR(share.at(1), 0.30, 0.02);
  EXPECT_NEAR(share.at(2), 0.15, 0.02);
  EXPECT_NEAR(share.at(3), 0.05, 0.01);
}

TEST_F(SamplerTest, TemperatureSharpens) {
  params.temperature = 0.5f;
  EXPECT_NEAR(shares().at(0), 0.25 / 0.365, 0.02);
}

TEST_F(SamplerTest, TopKKeepsTheBestAndTheirProportions) {
  params.top_k = 2;
  const auto share = shares();
  EXPECT_EQ(share.size(), 2u);
  EXPECT_NEAR(share.at(0), 0.5 / 0.8, 0.02);
}

TEST_F(SamplerTest, TopPKeepsTheShortestSetThatReachesIt) {
  params.top_p = 0.79f;
  EXPECT_EQ(shares().size(), 2u);
  params.top_p = 0.81f;
  EXPECT_EQ(shares().size(), 3u);
  params.top_p = 1e-9f;
  EXPECT_EQ(shares().size(), 1u);
}

TEST_F(SamplerTest, MinPDropsWhatIsFarBelowTheBest) {
  params.min_p = 0.25f;
  const auto share = shares();
  EXPECT_EQ(share.size(), 3u);
  EXPECT_FALSE(share.contains(3));
}

TEST_F(SamplerTest, SameSeedAndPositionGiveTheSameTokenAnotherSeedOthers) {
  int differing = 0;
  for (std::uint64_t position = 0; position < 200; ++position) {
    params.seed = 1;
    const auto first = sampler.sample(logits, params, position).value();
    EXPECT_EQ(sampler.sample(logits, params, position).value(), first);
    params.seed = 2;
    differing += sampler.sample(logits, params, position).value() != first ? 1 : 0;
  }
  EXPECT_GT(differing, 50);
}

TEST_F(SamplerTest, LogprobsAreTheLogSoftmaxOfThePlainLogits) {
  params.temperature = 0.1f;
  const auto top = sampler.top_logprobs(logits, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[1].id, 1);
  EXPECT_NEAR(top[0].logprob, std::log(0.5), 1e-6);
  EXPECT_NEAR(top[2].logprob, std::log(0.15), 1e-6);
  EXPECT_EQ(sampler.top_logprobs(logits, 99).size(), 4u);
}

TEST_F(SamplerTest, InfiniteOrNaNLogitsAreAnErrorThatSaysWhere) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    logits[2] = bad;
    const auto token = sampler.sample(logits, params, 17);
    ASSERT_FALSE(token);
    EXPECT_EQ(token.error().code, base::ErrorCode::kCorruptData);
    EXPECT_THAT(token.error().message, testing::HasSubstr("position 17"));
  }
}

TEST(SamplingParamsTest, OutOfRangeValuesAreNamed) {
  const auto message = [](const SamplingParams& params) {
    const auto status = validate(params);
    return status ? std::string() : status.error().message;
  };
  EXPECT_EQ(message({}), "");
  EXPECT_THAT(message({.temperature = -1.0f}), testing::HasSubstr("temperature"));
  EXPECT_THAT(message({.temperature = std::nanf("")}), testing::HasSubstr("temperature"));
  EXPECT_THAT(message({.min_p = 1.5f}), testing::HasSubstr("min-p"));
  EXPECT_THAT(message({.top_p = 0.0f}), testing::HasSubstr("top-p"));
}

}  // namespace
}  // namespace conclave::engine
