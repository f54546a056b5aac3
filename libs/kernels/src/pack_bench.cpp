// Speed of packing, which decides how long a start takes: bytes of the file for each second and
// thread. 64 MiB and more, so that no cache holds them; the memory is fresh each time.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "conclave/kernels/packed_matrix.hpp"

namespace conclave::kernels {
namespace {

constexpr std::size_t kInputs = 2048;
constexpr std::size_t kOutputs = 65536;

void pack(benchmark::State& state, gguf::BlockType type) {
  const std::vector<std::byte> data(gguf::bytes_of(type, kInputs * kOutputs).value(), std::byte{5});
  for (auto _ : state) {
    const auto matrix = PackedMatrix::pack(type, data, kOutputs, kInputs);
    benchmark::DoNotOptimize(matrix->panel(0));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(data.size()) * state.iterations());
}

const int kRegistered = [] {
  for (const gguf::BlockType type : gguf::kBlockTypes) {
    const std::string name = "pack/" + std::string(gguf::traits(type).name);
    benchmark::RegisterBenchmark(name.c_str(), pack, type)->Unit(benchmark::kMillisecond);
  }
  return 0;
}();

}  // namespace
}  // namespace conclave::kernels
