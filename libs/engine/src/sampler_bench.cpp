// Time from a row of logits to its token, for the usual parameters, beside one pass over the same
// row. Rows are taken in turn from as many as a step of 32 sequences has, as no core's own cache
// holds them.
#include "conclave/engine/sampler.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "conclave/kernels/isa.hpp"

namespace conclave::engine {
namespace {

constexpr std::size_t kRows = 32;

// CONCLAVE_ISA chooses another instruction set. Asked once: CPUID takes long in a virtual machine.
const kernels::KernelTable& table() {
  static const kernels::KernelTable& chosen = [&]() -> const kernels::KernelTable& {
    const char* isa = std::getenv("CONCLAVE_ISA");
    return kernels::kernel_table(kernels::choose_isa(isa == nullptr ? "" : isa).value());
  }();
  return chosen;
}

// Logits spread normally; `peaks` of them far above the rest, as in a text that is easy to go on.
std::vector<float> random_rows(std::size_t vocab, float spread, int peaks) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> rows(kRows * vocab);
  for (float& logit : rows) logit = normal(random);
  for (std::size_t row = 0; row < kRows; ++row) {
    for (int i = 0; i < peaks; ++i) {
      rows[row * vocab + random() % vocab] = 4.0f * spread + std::abs(normal(random));
    }
  }
  return rows;
}

struct Case {
  const char* name;
  SamplingParams params;
  float spread = 2.5f;
  int peaks = 20;
  bool counts = false;
  int top_logprobs = -1;  // below 0: none are asked for
};

void sample(benchmark::State& state, const Case& test) {
  const auto vocab = static_cast<std::size_t>(state.range(0));
  const std::vector<float> rows = random_rows(vocab, test.spread, test.peaks);
  Sampler sampler(table());
  TokenCounts counts;
  for (int i = 0; test.counts && i < 2000; ++i) counts.add_output((i * 37) % 20000);
  std::uint64_t position = 0;
  std::int64_t sum = 0;  // equal before and after a change: the same tokens are drawn
  for (auto _ : state) {
    const std::span<const float> row(rows.data() + position % kRows * vocab, vocab);
    SampleContext context;
    context.position = position++;
    context.counts = &counts;
    const std::int32_t token = sampler.sample(row, test.params, context).value();
    if (position <= 16) sum += token;
    if (test.top_logprobs >= 0) {
      benchmark::DoNotOptimize(
          sampler.logprobs(row, token, static_cast<std::uint32_t>(test.top_logprobs)));
    }
  }
  state.counters["tokens"] = static_cast<double>(sum);
}

void pass(benchmark::State& state) {
  const auto vocab = static_cast<std::size_t>(state.range(0));
  const std::vector<float> rows = random_rows(vocab, 1.0f, 0);
  std::size_t row = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table().max(rows.data() + row++ % kRows * vocab, vocab));
  }
}

SamplingParams params(float temperature, std::uint32_t top_k = 0, float top_p = 1.0f,
                      float min_p = 0.0f) {
  SamplingParams out;
  out.temperature = temperature;
  out.top_k = top_k;
  out.top_p = top_p;
  out.min_p = min_p;
  out.seed = 7;
  return out;
}

SamplingParams penalised() {
  SamplingParams out = params(0.0f);
  out.frequency_penalty = 0.5f;
  out.repetition_penalty = 1.1f;
  for (std::int32_t i = 0; i < 20; ++i) out.logit_bias.push_back({i * 1001, 2.0f});
  return out;
}

const int kRegistered = [] {
  static const Case kCases[] = {
      {"greedy", params(0.0f)},
      {"temperature", params(0.8f)},
      {"top_k_40", params(0.8f, 40)},
      {"top_k_1000", params(0.8f, 1000)},
      {"top_p_peaked", params(0.8f, 0, 0.95f)},
      {"top_p_flat", params(1.0f, 0, 0.95f), 0.5f, 0},
      {"min_p", params(0.8f, 0, 1.0f, 0.05f)},
      {"min_p_flat", params(1.0f, 0, 1.0f, 0.05f), 0.5f, 0},
      {"top_k_top_p_min_p", params(0.8f, 40, 0.95f, 0.01f)},
      {"greedy_penalties_bias", penalised(), 2.5f, 20, true},
      {"greedy_logprobs", params(0.0f), 2.5f, 20, false, 0},
      {"greedy_top_5", params(0.0f), 2.5f, 20, false, 5},
  };
  const auto sizes = [](benchmark::internal::Benchmark* bench) {
    bench->Arg(50304)->Arg(151936)->Unit(benchmark::kMicrosecond)->MinTime(0.1);
  };
  sizes(benchmark::RegisterBenchmark("pass", pass));
  for (const Case& test : kCases) {
    sizes(benchmark::RegisterBenchmark(("sample/" + std::string(test.name)).c_str(), sample, test));
  }
  return 0;
}();

}  // namespace
}  // namespace conclave::engine
