#include "conclave/engine/sampler_pool.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace conclave::engine {
namespace {

TEST(SamplerPoolTest, RowsSampledSideBySideEqualThoseSampledInTurn) {
  constexpr std::size_t kVocab = 3000;
  constexpr std::size_t kRows = 64;
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> logits(kRows * kVocab);
  for (float& logit : logits) logit = normal(random);
  std::vector<SamplingParams> params(kRows);
  std::vector<TokenCounts> counts(kRows);
  for (std::size_t row = 0; row < kRows; ++row) {
    params[row].temperature = row % 4 == 0 ? 0.0f : 1.0f;
    params[row].top_k = row % 3 == 0 ? 20 : 0;
    params[row].top_p = row % 5 == 0 ? 0.9f : 1.0f;
    params[row].repetition_penalty = row % 7 == 0 ? 1.3f : 1.0f;
    params[row].seed = row;
    counts[row].add_output(static_cast<std::int32_t>(row));
  }
  const auto& kernels = kernels::kernel_table(kernels::best_isa());
  struct Drawn {
    std::int32_t token = -1;
    TokenLogprobs logprobs;
    bool operator==(const Drawn&) const = default;
  };
  const auto draw = [&](std::size_t row, Sampler& sampler) {
    const std::span<const float> values(logits.data() + row * kVocab, kVocab);
    SampleContext context;
    context.position = 100 + row;
    context.counts = &counts[row];
    const std::int32_t token = sampler.sample(values, params[row], context).value();
    return Drawn{token, sampler.logprobs(values, token, 3)};
  };

  std::vector<Drawn> expected(kRows);
  Sampler alone(kernels);
  for (std::size_t row = 0; row < kRows; ++row) expected[row] = draw(row, alone);
  for (const unsigned threads : {1u, 2u, 5u}) {
    base::ThreadPool pool(threads);
    SamplerPool samplers({kernels, pool});
    for (int round = 0; round < 3; ++round) {
      std::vector<Drawn> drawn(kRows);
      samplers.for_each(
          kRows, [&](std::size_t row, Sampler& sampler) { drawn[row] = draw(row, sampler); });
      EXPECT_EQ(drawn, expected) << threads;
    }
  }
}

}  // namespace
}  // namespace conclave::engine
