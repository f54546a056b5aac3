// Speed of the matrix products: for each block type, from one row (decoding: bound by memory) to
// many (prompts: bound by arithmetic). Weights of 64 MiB and more, so that no cache holds them.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <string>

#include "conclave/kernels/matmul.hpp"

namespace conclave::kernels {
namespace {

constexpr std::size_t kInputs = 2048;
constexpr std::size_t kOutputs = 65536;

PackedMatrix random_matrix(gguf::BlockType type) {
  std::mt19937 random(1);
  std::vector<std::byte> data(gguf::bytes_of(type, kInputs * kOutputs).value());
  for (std::size_t i = 0; i + 4 <= data.size(); i += 4) {
    // Exponents of all 16-bit words kept small: no inf or NaN in any scale.
    const std::uint32_t word = static_cast<std::uint32_t>(random()) & 0x3F7F3F7Fu;
    std::memcpy(&data[i], &word, sizeof word);
  }
  if (type == gguf::BlockType::kMXFP4) {  // exponents as weights have them: no denormal scales
    const std::size_t block = gguf::traits(type).bytes;
    for (std::size_t at = 0; at < data.size(); at += block) {
      data[at] = static_cast<std::byte>(120 + at / block % 4);
    }
  }
  return PackedMatrix::pack(type, data, kOutputs, kInputs).value();
}

void multiply(benchmark::State& state, gguf::BlockType type, Isa isa) {
  const auto rows = static_cast<std::size_t>(state.range(0));
  const PackedMatrix weights = random_matrix(type);
  base::ThreadPool pool(1);
  const Compute compute{kernel_table(isa), pool};
  std::vector<float> x(rows * kInputs);
  std::mt19937 random(2);
  std::normal_distribution<float> numbers;
  for (float& number : x) number = numbers(random);
  std::vector<float> y(rows * kOutputs);
  QuantizedRows room;
  const RowsView view = quantize(compute, x.data(), rows, kInputs,
                                 std::max<std::size_t>(scale_block(type), kRowBlock), room);
  for (auto _ : state) {
    matmul(compute, weights, view, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  const auto runs = static_cast<double>(state.iterations());
  state.counters["weights_GB/s"] = benchmark::Counter(
      runs * static_cast<double>(weights.bytes()) * 1e-9, benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] = benchmark::Counter(
      runs * 2e-9 * static_cast<double>(rows * kInputs * kOutputs), benchmark::Counter::kIsRate);
}

const int kRegistered = [] {
  for (const gguf::BlockType type : gguf::kBlockTypes) {
    for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
      if (!supported(isa)) continue;
      const std::string name =
          "matmul/" + std::string(gguf::traits(type).name) + "/" + std::string(to_string(isa));
      benchmark::RegisterBenchmark(name.c_str(), multiply, type, isa)
          ->Arg(1)
          ->Arg(8)
          ->Arg(64)
          ->Unit(benchmark::kMillisecond)
          ->MinTime(0.2);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace conclave::kernels
