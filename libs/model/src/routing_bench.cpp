// Time per row of what runs rows x layers times around the products: choosing the experts, rotating
// the heads.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <vector>

#include "conclave/kernels/isa.hpp"
#include "conclave/model/gate.hpp"
#include "conclave/model/rope.hpp"

namespace conclave::model {
namespace {

std::vector<float> random_values(std::size_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

GateConfig gate(std::uint32_t experts, std::uint32_t used) {
  GateConfig config;
  config.experts = experts;
  config.used = used;
  return config;
}

GateConfig grouped() {  // DeepSeek-V3's
  GateConfig config = gate(256, 8);
  config.function = GateFunction::kSigmoid;
  config.groups = 8;
  config.groups_used = 4;
  return config;
}

void select(benchmark::State& state, const GateConfig& config, bool biased) {
  constexpr std::size_t kRows = 512;
  const auto rows = random_values(kRows * config.experts);
  const auto bias = random_values(biased ? config.experts : 0);
  std::vector<float> logits(config.experts);
  std::vector<std::uint32_t> experts(config.used);
  std::vector<float> weights(config.used);
  const auto& kernels = kernels::kernel_table(kernels::best_isa());
  std::size_t row = 0;
  for (auto _ : state) {
    std::copy_n(rows.data() + row++ % kRows * config.experts, config.experts, logits.data());
    select_experts(config, kernels, logits.data(), bias, experts.data(), weights.data());
    benchmark::DoNotOptimize(experts.data());
  }
}

void rotate(benchmark::State& state, RopeStyle style) {
  RopeConfig config;
  config.style = style;
  config.dimensions = static_cast<std::uint32_t>(state.range(0));
  const Rope rope(config, {});
  std::vector<float> cos(rope.pairs());
  std::vector<float> sin(rope.pairs());
  rope.angles(77, cos.data(), sin.data());
  auto heads = random_values(64 * config.dimensions);
  std::size_t head = 0;
  for (auto _ : state) {
    rope.rotate(heads.data() + head++ % 64 * config.dimensions, cos.data(), sin.data());
  }
}

BENCHMARK_CAPTURE(select, softmax_64_of_8, gate(64, 8), false);
BENCHMARK_CAPTURE(select, softmax_128_of_8, gate(128, 8), false);
BENCHMARK_CAPTURE(select, sigmoid_256_of_8_in_groups, grouped(), true);
BENCHMARK_CAPTURE(rotate, neox, RopeStyle::kNeox)->Arg(64)->Arg(128);
BENCHMARK_CAPTURE(rotate, adjacent, RopeStyle::kNorm)->Arg(64)->Arg(128);

}  // namespace
}  // namespace conclave::model
