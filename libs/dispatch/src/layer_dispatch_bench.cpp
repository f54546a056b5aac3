// What deciding costs, a layer: it must stay far below one round trip (20 us and more).
#include <benchmark/benchmark.h>

#include "conclave/dispatch/layer_dispatch.hpp"
#include "testing_table.hpp"

namespace conclave::dispatch {
namespace {

// range(0) workers, two replicas of each of 128 experts; range(1) experts have rows.
void BM_Layer(benchmark::State& state) {
  const auto workers = static_cast<std::size_t>(state.range(0));
  std::vector<std::vector<std::uint16_t>> pools;
  for (std::size_t e = 0; e < 128; ++e) {
    pools.push_back({static_cast<std::uint16_t>(e % workers),
                     static_cast<std::uint16_t>((e + 1 + e / workers) % workers)});
    if (pools.back()[0] == pools.back()[1]) pools.back().pop_back();
  }
  LayerDispatch core(128, {}, 1);
  LayerDispatch::TimePoint now{std::chrono::hours(1)};
  core.apply(testing_table::table_of(workers, pools));
  for (std::size_t i = 0; i < workers; ++i) core.link(i, true, now);
  std::vector<ExpertWork> work;
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(state.range(1)); ++i) {
    work.push_back({i * 128 / static_cast<std::uint32_t>(state.range(1)), 1});
  }
  LayerDispatch::CallId next_call = 1;
  for (auto _ : state) {
    core.begin(0, work);
    const LayerDispatch::CallId first = next_call;
    for (const Order& order : core.plan(now)) core.sent(order, next_call++, now);
    benchmark::DoNotOptimize(core.next(now));
    now += std::chrono::microseconds(100);
    for (LayerDispatch::CallId call = first; call < next_call; ++call) {
      benchmark::DoNotOptimize(core.answered(call, {}, now));
    }
  }
}
BENCHMARK(BM_Layer)->Args({1, 8})->Args({4, 8})->Args({8, 8})->Args({8, 64})->Args({32, 128});

}  // namespace
}  // namespace conclave::dispatch
