// Bytes a second of a scan, from the page cache: of the file that CONCLAVE_BENCH_MODEL names, or of
// the demo model, which is small enough for its opening to show.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>

#include "conclave/catalog/scan.hpp"

namespace conclave::catalog {
namespace {

void scan(benchmark::State& state) {
  const char* named = std::getenv("CONCLAVE_BENCH_MODEL");
  const std::string path = named != nullptr ? named : "models/demo/conclave-demo.gguf";
  std::uint64_t bytes = 0;
  for (auto _ : state) {
    const auto result = scan_model(path, "bench", {});
    if (!result) {
      state.SkipWithError(result.error().to_string().c_str());
      return;
    }
    bytes += result->record.bytes;
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes));
}
BENCHMARK(scan)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace conclave::catalog
