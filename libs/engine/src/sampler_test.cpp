#include "conclave/engine/sampler.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

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
  TokenCounts counts;
  std::vector<std::int32_t> blocked;

  SamplerTest() { params.temperature = 1.0f; }

  std::int32_t draw(std::uint64_t position) {
    SampleContext context;
    context.position = position;
    context.counts = &counts;
    context.blocked = blocked;
    return sampler.sample(logits, params, context).value();
  }

  std::map<std::int32_t, double> shares(int draws = 20000) {
    std::map<std::int32_t, double> count;
    for (int i = 0; i < draws; ++i) {
      count[draw(static_cast<std::uint64_t>(i))] += 1.0 / draws;
    }
    return count;
  }
};

TEST_F(SamplerTest, ZeroTemperatureTakesTheBestAndTheLowerIdAmongEquals) {
  params.temperature = 0.0f;
  EXPECT_EQ(draw(0), 0);
  logits = {1.0f, 3.0f, 3.0f};
  EXPECT_EQ(draw(0), 1);
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
    const auto first = draw(position);
    EXPECT_EQ(draw(position), first);
    params.seed = 2;
    differing += draw(position) != first ? 1 : 0;
  }
  EXPECT_GT(differing, 50);
}

TEST_F(SamplerTest, LogprobsAreTheLogSoftmaxOfThePlainLogits) {
  params.temperature = 0.1f;
  params.logit_bias = {{3, 50.0f}};
  const TokenLogprobs at = sampler.logprobs(logits, 3, 3);
  ASSERT_EQ(at.top.size(), 3u);
  EXPECT_EQ(at.token, 3);
  EXPECT_NEAR(at.logprob, std::log(0.05), 1e-6);
  EXPECT_EQ(at.top[1].id, 1);
  EXPECT_NEAR(at.top[0].logprob, std::log(0.5), 1e-6);
  EXPECT_NEAR(at.top[2].logprob, std::log(0.15), 1e-6);
  EXPECT_EQ(sampler.logprobs(logits, 0, 99).top.size(), 4u);
  EXPECT_TRUE(sampler.logprobs(logits, 0, 0).top.empty());
}

TEST_F(SamplerTest, TopLogprobsAreTheBestInOrderAndTheLowerIdAmongEquals) {
  std::mt19937 random(5);
  logits.resize(1000);
  for (float& logit : logits) logit = static_cast<float>(random() % 97);
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  for (const std::uint32_t count : {1u, 7u, 50u, 1000u}) {
    const auto top = sampler.logprobs(logits, 0, count).top;
    ASSERT_EQ(top.size(), count);
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(top[i].id, order[i]);
  }
}

TEST_F(SamplerTest, BiasMovesLogits) {
  params.logit_bias = {{3, 2.5f}, {0, -100.0f}};
  const double mass = 0.3 + 0.15 + 0.05 * std::exp(2.5);
  const auto share = shares();
  EXPECT_FALSE(share.contains(0));
  EXPECT_NEAR(share.at(1), 0.3 / mass, 0.02);
  EXPECT_NEAR(share.at(3), 0.05 * std::exp(2.5) / mass, 0.02);
  params.temperature = 0.0f;
  EXPECT_EQ(draw(0), 3);
}

TEST_F(SamplerTest, PenaltiesEqualTheirFormulas) {
  // Every token's logit by the formulas, greedily; against random logits and histories.
  params.temperature = 0.0f;
  std::mt19937 random(11);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  int moved = 0;
  for (int round = 0; round < 300; ++round) {
    logits.resize(60);
    for (float& logit : logits) logit = normal(random);
    const auto pick = [&](float least, float most) {
      return std::uniform_real_distribution<float>(least, most)(random);
    };
    params.presence_penalty = round % 3 == 0 ? 0.0f : pick(-2.0f, 2.0f);
    params.frequency_penalty = round % 5 == 0 ? 0.0f : pick(-2.0f, 2.0f);
    params.repetition_penalty = round % 7 == 0 ? 1.0f : pick(0.5f, 3.0f);
    counts = TokenCounts();
    std::map<std::int32_t, int> in_prompt, in_output;
    for (int i = 0; i < 30; ++i) {
      const auto token = static_cast<std::int32_t>(random() % logits.size());
      if (i % 2 == 0) {
        counts.add_prompt(token);
        ++in_prompt[token];
      } else {
        counts.add_output(token);
        ++in_output[token];
      }
    }
    double best = -1e30;
    std::int32_t expected = -1;
    for (std::int32_t token = 0; token < static_cast<std::int32_t>(logits.size()); ++token) {
      double logit = logits[static_cast<std::size_t>(token)];
      if (in_prompt.contains(token) || in_output.contains(token)) {
        const double r = params.repetition_penalty;
        logit = logit > 0.0 ? logit / r : logit * r;
      }
      if (in_output.contains(token)) {
        logit -= double{params.frequency_penalty} * in_output[token] + params.presence_penalty;
      }
      if (logit > best) best = logit, expected = token;
    }
    EXPECT_EQ(draw(0), expected) << round;
    const auto plain = std::max_element(logits.begin(), logits.end()) - logits.begin();
    moved += plain != expected ? 1 : 0;
  }
  EXPECT_GT(moved, 50);
}

TEST_F(SamplerTest, PenaltiesKeepLogitsFiniteWhateverTheFile) {
  constexpr float kMost = std::numeric_limits<float>::max();
  logits = {kMost, -kMost, kMost / 2.0f, 0.0f};
  for (std::int32_t token = 0; token < 4; ++token) counts.add_output(token);
  params.logit_bias = {{0, 100.0f}, {1, -100.0f}};
  params.top_p = 0.9f;
  params.top_k = 3;
  for (const float repetition : {1e-6f, 10.0f}) {
    params.repetition_penalty = repetition;
    const std::int32_t token = draw(3);
    EXPECT_TRUE(token == 0 || token == 2) << token;
  }
}

TEST_F(SamplerTest, BlockedTokensAreNeverDrawn) {
  blocked = {0, 2};
  const auto share = shares();
  EXPECT_EQ(share.size(), 2u);
  EXPECT_NEAR(share.at(1), 0.3 / 0.35, 0.02);
  params.logit_bias = {{0, 100.0f}};
  params.temperature = 0.0f;
  EXPECT_EQ(draw(0), 1);
  blocked = {0, 1, 2, 3};
  SampleContext context;
  context.blocked = blocked;
  const auto token = sampler.sample(logits, params, context);
  ASSERT_FALSE(token);
  EXPECT_EQ(token.error().code, base::ErrorCode::kInvalidArgument);
}

TEST_F(SamplerTest, InfiniteOrNaNLogitsAreAnErrorThatSaysWhere) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    logits[2] = bad;
    SampleContext context;
    context.position = 17;
    const auto token = sampler.sample(logits, params, context);
    ASSERT_FALSE(token);
    EXPECT_EQ(token.error().code, base::ErrorCode::kCorruptData);
    EXPECT_THAT(token.error().message, testing::HasSubstr("position 17"));
  }
}

// What `sample` promises, by sorting all tokens and adding one by one.
std::int32_t sorted_draw(std::vector<float> logits, const SamplingParams& params,
                         const SampleContext& context) {
  for (const LogitBias& entry : params.logit_bias) {
    logits[static_cast<std::size_t>(entry.token)] += entry.bias;
  }
  const auto of = [&](std::int32_t token) { return logits[static_cast<std::size_t>(token)]; };
  std::vector<std::int32_t> order;
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(logits.size()); ++id) {
    if (std::ranges::find(context.blocked, id) == context.blocked.end()) order.push_back(id);
  }
  std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) { return of(a) > of(b); });
  const float best = of(order.front());
  if (params.temperature <= 0.0f) return order.front();
  const auto exponent = [&](std::int32_t id) { return (of(id) - best) / params.temperature; };
  const auto mass = [&](std::int32_t id) { return std::exp(double{exponent(id)}); };
  if (params.min_p > 0.0f) {
    std::erase_if(order, [&](std::int32_t id) { return exponent(id) < std::log(params.min_p); });
  }
  if (params.top_k > 0 && params.top_k < order.size()) order.resize(params.top_k);
  double sum = 0.0;
  for (const std::int32_t id : order) sum += mass(id);
  if (params.top_p < 1.0f) {
    double kept = 0.0;
    std::size_t count = 0;
    while (count < order.size() && kept < double{params.top_p} * sum) kept += mass(order[count++]);
    order.resize(count);
    sum = kept;
  } else {
    std::ranges::sort(order);
  }
  double left = uniform_draw(params.seed, context.position) * sum;
  for (const std::int32_t id : order) {
    left -= mass(id);
    if (left < 0.0) return id;
  }
  return order.back();
}

TEST_F(SamplerTest, DrawsWhatSortingWouldOnEveryInstructionSet) {
  std::vector<Sampler> samplers;
  for (const auto isa : kernels::kIsas) {
    if (kernels::supported(isa)) samplers.emplace_back(kernels::kernel_table(isa));
  }
  std::mt19937 random(21);
  constexpr int kRounds = 600;
  int other = 0;  // draws that an error of 1e-7 in the exponentials puts one token further
  for (int round = 0; round < kRounds; ++round) {
    const float spread = std::array{0.01f, 0.5f, 2.0f, 6.0f}[random() % 4];
    std::normal_distribution<float> normal(round % 3 == 0 ? 15.0f : -4.0f, spread);
    logits.resize(std::array<std::size_t, 5>{3, 64, 257, 1000, 9000}[random() % 5]);
    for (float& logit : logits) logit = normal(random);
    if (round % 7 == 0) {
      for (float& logit : logits) logit = std::round(logit);  // equals
    }
    if (round % 2 == 0) logits[random() % logits.size()] += 5.0f * spread;
    params = SamplingParams();
    params.temperature = std::array{0.0f, 0.3f, 1.0f, 1.7f}[random() % 4];
    params.top_k = std::array{0u, 1u, 5u, 40u, 800u}[random() % 5];
    params.top_p = std::array{1.0f, 0.99f, 0.95f, 0.5f, 1e-6f}[random() % 5];
    params.min_p = std::array{0.0f, 0.0f, 0.02f, 0.3f, 1.0f}[random() % 5];
    params.seed = random();
    if (round % 5 == 0) params.logit_bias = {{0, 3.0f}, {2, -9.0f}};
    blocked.clear();
    if (round % 4 == 0) {
      const auto best = std::ranges::max_element(logits) - logits.begin();
      blocked = {static_cast<std::int32_t>(best), static_cast<std::int32_t>(best == 1 ? 0 : 1)};
    }
    SampleContext context;
    context.position = static_cast<std::uint64_t>(round);
    context.blocked = blocked;
    const std::int32_t token = samplers.front().sample(logits, params, context).value();
    for (Sampler& each : samplers) {
      ASSERT_EQ(each.sample(logits, params, context).value(), token) << round;
      ASSERT_EQ(each.logprobs(logits, token, 5), samplers.front().logprobs(logits, token, 5));
    }
    other += token != sorted_draw(logits, params, context) ? 1 : 0;
  }

  EXPECT_LE(other, 2);
}

TEST_F(SamplerTest, ADrawAfterBlockedTokensNeverTakesOne) {
  // A whole block of masses is blocked, before, between and after the others.
  logits.assign(1024, 0.0f);
  for (std::int32_t id = 0; id < 1024; ++id) {
    if (id < 256 || (id >= 512 && id != 700)) blocked.push_back(id);
  }
  for (const auto& [token, share] : shares(2000)) {
    EXPECT_TRUE((token >= 256 && token < 512) || token == 700) << token;
    EXPECT_LT(share, 0.05);
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
  EXPECT_THAT(message({.presence_penalty = 2.1f}), testing::HasSubstr("presence-penalty"));
  EXPECT_THAT(message({.frequency_penalty = -2.1f}), testing::HasSubstr("frequency-penalty"));
  EXPECT_THAT(message({.repetition_penalty = 0.0f}), testing::HasSubstr("repetition-penalty"));
  EXPECT_THAT(message({.repetition_penalty = 11.0f}), testing::HasSubstr("repetition-penalty"));
  EXPECT_THAT(message({.logit_bias = {{7, 101.0f}}}), testing::HasSubstr("token 7"));
  EXPECT_THAT(message({.logit_bias = {{7, std::nanf("")}}}), testing::HasSubstr("token 7"));
  EXPECT_THAT(message({.logit_bias = {{7, 1.0f}, {8, 1.0f}, {7, 2.0f}}}),
              testing::HasSubstr("token 7 twice"));
  EXPECT_THAT(message({.logit_bias = std::vector<LogitBias>(kLogitBiasMax + 1)}),
              testing::HasSubstr("301 entries"));
}

}  // namespace
}  // namespace conclave::engine
