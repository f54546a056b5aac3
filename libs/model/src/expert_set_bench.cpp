// Speed of a layer's experts as models of 64 small experts have them (1024 -> 512 -> 1024, 8 for
// each row): one row, which reads 8 experts, then batches that give each expert 1 to 64 rows.
// Layers take turns, as they do in a model: all of them are more than the caches of most machines
// hold.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "conclave/model/expert_set.hpp"

namespace conclave::model {
namespace {

constexpr std::uint32_t kLayers = 12;
constexpr std::uint32_t kExperts = 64;
constexpr std::uint32_t kUsed = 8;
constexpr std::uint32_t kHidden = 1024;
constexpr std::uint32_t kFfn = 512;

ModelConfig config() {
  ModelConfig config;
  config.architecture = find_architecture("qwen3moe").value();
  config.layers = kLayers;
  config.hidden = kHidden;
  config.expert_ffn = kFfn;
  config.gate.experts = kExperts;
  config.gate.used = kUsed;
  return config;
}

std::vector<std::byte> random_blocks(gguf::BlockType type) {
  std::mt19937 random(1);
  std::vector<std::byte> data(gguf::bytes_of(type, std::size_t{kHidden} * kFfn).value());
  for (std::size_t i = 0; i + 4 <= data.size(); i += 4) {
    // Exponents of all 16-bit words kept small: no inf or NaN in any scale.
    const std::uint32_t word = static_cast<std::uint32_t>(random()) & 0x2F7F2F7Fu;
    std::memcpy(&data[i], &word, sizeof word);
  }
  if (type == gguf::BlockType::kMXFP4) {  // exponents as weights have them: no denormal scales
    const std::size_t block = gguf::traits(type).bytes;
    for (std::size_t at = 0; at < data.size(); at += block) {
      data[at] = static_cast<std::byte>(120 + at / block % 4);
    }
  }
  return data;
}

// Row `row` of a step asks for 8 experts in turn, so that all get equally many rows.
std::vector<ExpertPair> pairs_of(std::uint32_t rows, std::uint32_t first) {
  std::vector<ExpertPair> pairs;
  for (std::uint32_t row = 0; row < rows; ++row) {
    for (std::uint32_t k = 0; k < kUsed; ++k) {
      pairs.push_back({row, (first + row * kUsed + k) % kExperts});
    }
  }
  PairOrder order;
  (void)order.sort(pairs, rows, kExperts);
  return {order.sorted().begin(), order.sorted().end()};
}

void run(benchmark::State& state, gguf::BlockType type, kernels::Isa isa) {
  const auto rows = static_cast<std::uint32_t>(state.range(0));
  base::ThreadPool pool(std::max(1u, std::thread::hardware_concurrency()));
  const kernels::Compute compute{kernels::kernel_table(isa), pool};
  ExpertSet set(config(), compute);
  const std::vector<std::byte> blocks = random_blocks(type);
  // In one run of memory, as a model's weights are: huge pages do not fit a single matrix.
  const std::size_t bytes = kernels::packed_bytes(type, kFfn, kHidden).value_or(0);
  base::Arena arena(3 * kLayers * kExperts * (bytes + base::kCacheLine));
  const auto linear = [&](std::size_t outputs, std::size_t inputs) {
    auto matrix = kernels::PackedMatrix::create(type, outputs, inputs, arena).value();
    matrix.fill(0, blocks);
    return Linear{std::move(matrix), {}};
  };
  for (std::uint32_t i = 0; i < kLayers * kExperts; ++i) {
    (void)set.insert({i / kExperts, i % kExperts},
                     {linear(kFfn, kHidden), linear(kFfn, kHidden), linear(kHidden, kFfn)});
  }
  std::vector<float> x(std::size_t{rows} * kHidden);
  std::mt19937 random(2);
  std::normal_distribution<float> numbers;
  for (float& number : x) number = numbers(random);
  base::AlignedVector<float> y(std::size_t{rows} * kUsed * kHidden);
  kernels::QuantizedRows room;
  const kernels::RowsView view =
      kernels::quantize(compute, x.data(), rows, kHidden, kernels::scale_block(type), room);
  std::vector<std::vector<ExpertPair>> steps;
  for (std::uint32_t first = 0; first < kExperts; first += kUsed) {
    steps.push_back(pairs_of(rows, first));
  }
  std::size_t step = 0;
  for (auto _ : state) {
    const auto layer = static_cast<std::uint32_t>(step % kLayers);
    const auto& pairs = steps[step / kLayers % steps.size()];
    if (!set.run(layer, view, pairs, y.data())) state.SkipWithError("refused");
    ++step;
  }
  const auto runs = static_cast<double>(state.iterations());
  const double experts = std::min(rows * kUsed, kExperts);
  state.counters["weights_GB/s"] = benchmark::Counter(
      runs * 1e-9 * static_cast<double>(set.bytes()) * experts / (kLayers * kExperts),
      benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(runs * 6e-9 * rows * kUsed * kHidden * kFfn, benchmark::Counter::kIsRate);
}

const int kRegistered = [] {
  for (const gguf::BlockType type : {gguf::BlockType::kQ8_0, gguf::BlockType::kQ4_K,
                                     gguf::BlockType::kQ6_K, gguf::BlockType::kMXFP4}) {
    for (const kernels::Isa isa :
         {kernels::Isa::kAvx2, kernels::Isa::kAvx512, kernels::Isa::kAmx}) {
      if (!kernels::supported(isa)) continue;
      const std::string name = "experts/" + std::string(gguf::traits(type).name) + "/" +
                               std::string(kernels::to_string(isa)) + "/rows";
      auto* bench = benchmark::RegisterBenchmark(name.c_str(), run, type, isa);
      for (const int rows : {1, 8, 16, 32, 64, 128, 512}) bench->Arg(rows);
      bench->Unit(benchmark::kMillisecond)->UseRealTime()->MinTime(0.2);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace conclave::model
