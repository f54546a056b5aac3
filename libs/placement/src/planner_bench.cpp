// How long planning takes at the size of DeepSeek-V3 and beyond, and how evenly a drifting load is
// shared for how many bytes, beside EPLB. `balance` prints a table before the timings.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/placement/planner.hpp"
#include "testing_eplb.hpp"

namespace conclave::placement {
namespace {

constexpr std::uint64_t kExpertBytes = 1 << 20;

// `slots` copies of a layer in all, on workers with just the room for them.
PlanRequest fleet(std::uint32_t layers, std::uint32_t experts, std::uint32_t slots,
                  std::uint32_t workers) {
  PlanRequest request;
  request.shape = {"bench", layers, 0, experts, kExpertBytes};
  for (std::uint32_t w = 0; w < workers; ++w) {
    PlanWorker worker;
    worker.name = "w" + std::to_string(w);
    worker.slots = (layers * slots + workers - 1) / workers;
    worker.memory_bytes = worker.slots * kExpertBytes;
    worker.host = "h" + std::to_string(w / 8);
    request.workers.push_back(worker);
  }
  request.spare = static_cast<double>(slots - experts) / experts;
  return request;
}

// Popularity by Zipf(1) in a random order for every layer, and a slow random walk of its logarithm
// that is drawn back to where it was: what day and night and topics do.
class DriftingZipf {
 public:
  DriftingZipf(std::uint32_t layers, std::uint32_t experts, double step, std::uint32_t seed)
      : random_(seed), step_(step), base_(std::size_t{layers} * experts), walk_(base_.size()) {
    std::vector<std::uint32_t> order(experts);
    std::iota(order.begin(), order.end(), 0u);
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      std::shuffle(order.begin(), order.end(), random_);
      for (std::uint32_t rank = 0; rank < experts; ++rank) {
        base_[std::size_t{layer} * experts + order[rank]] = -std::log(rank + 1.0);
      }
    }
  }

  void advance() {
    std::normal_distribution<double> normal;
    for (double& value : walk_) value = 0.98 * value + step_ * normal(random_);
  }
  [[nodiscard]] std::vector<double> loads() const {
    std::vector<double> loads(base_.size());
    for (std::size_t i = 0; i < loads.size(); ++i) loads[i] = 1e6 * std::exp(base_[i] + walk_[i]);
    return loads;
  }

 private:
  std::mt19937 random_;
  double step_;
  std::vector<double> base_;
  std::vector<double> walk_;
};

void settle(PlanRequest& request, const Plan& plan) {
  for (std::size_t w = 0; w < request.workers.size(); ++w) {
    request.workers[w].resident = plan.targets[w];
    request.workers[w].assigned = plan.targets[w];
  }
}

void BM_PlanFromNothing(benchmark::State& state) {
  PlanRequest request = fleet(61, 256, 320, 512);
  request.loads = DriftingZipf(61, 256, 0.1, 1).loads();
  Plan plan;
  for (auto _ : state) plan = EplbFtPlanner().plan(request);
  state.counters["max_over_mean"] = plan.after.mean;
  state.counters["total"] = plan.after.total;
}
BENCHMARK(BM_PlanFromNothing)->Unit(benchmark::kMillisecond);

// 61 x 256 experts twice and an eighth more on 64 workers: 10 of a layer on each.
void BM_PlanFromNothingFloorOf2(benchmark::State& state) {
  PlanRequest request = fleet(61, 256, 576, 64);
  request.replicas = 2;
  request.spare = 32.0 / 256;
  for (PlanWorker& worker : request.workers) worker.slots += 61;
  for (PlanWorker& worker : request.workers) worker.memory_bytes = worker.slots * kExpertBytes;
  request.loads = DriftingZipf(61, 256, 0.1, 1).loads();
  Plan plan;
  for (auto _ : state) plan = EplbFtPlanner().plan(request);
  state.counters["max_over_mean"] = plan.after.mean;
  state.counters["after_loss"] = plan.after.after_loss;
}
BENCHMARK(BM_PlanFromNothingFloorOf2)->Unit(benchmark::kMillisecond);

void BM_PlanAfterALoss(benchmark::State& state) {
  PlanRequest request = fleet(61, 256, 320, 512);
  request.loads = DriftingZipf(61, 256, 0.1, 1).loads();
  settle(request, EplbFtPlanner().plan(request));
  request.workers.erase(request.workers.begin() + 100);
  Plan plan;
  for (auto _ : state) plan = EplbFtPlanner().plan(request);
  state.counters["moves"] = static_cast<double>(plan.moves);
  state.counters["replicas"] = plan.replicas;
}
BENCHMARK(BM_PlanAfterALoss)->Unit(benchmark::kMillisecond);

struct Row {
  double ours = 0;
  double eplb = 0;
  double still = 0;  // EPLB's first placement, never changed
  std::size_t our_moves = 0;
  std::size_t eplb_moves = 0;
};

// One layer after the other (EPLB knows no others) over `windows`: each plans by the load of the
// window that is over and is measured in the next one.
Row follow(double step, double price, std::uint32_t windows) {
  constexpr std::uint32_t kLayers = 8;
  constexpr std::uint32_t kExperts = 256;
  constexpr std::uint32_t kSlots = 288;
  constexpr std::uint32_t kWorkers = 32;
  DriftingZipf zipf(kLayers, kExperts, step, 7);
  PlanRequest request = fleet(kLayers, kExperts, kSlots, kWorkers);
  request.move_price = price;
  request.loads = zipf.loads();
  settle(request, EplbFtPlanner().plan(request));
  const auto of_layer = [&](const std::vector<double>& loads, std::uint32_t layer) {
    const auto first = loads.begin() + static_cast<std::ptrdiff_t>(layer) * kExperts;
    return std::vector<double>(first, first + kExperts);
  };
  std::vector<testing_eplb::Placement> eplb;
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    eplb.push_back(testing_eplb::place(of_layer(request.loads, layer), kWorkers, kSlots));
  }
  const auto first = eplb;
  Row row;
  for (std::uint32_t window = 0; window < windows; ++window) {
    zipf.advance();
    const std::vector<double> live = zipf.loads();
    request.loads = live;
    row.ours += predict(request).mean / windows;
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      const auto load = of_layer(live, layer);
      row.eplb += testing_eplb::max_over_mean(eplb[layer], load) / kLayers / windows;
      row.still += testing_eplb::max_over_mean(first[layer], load) / kLayers / windows;
      auto next = testing_eplb::place(load, kWorkers, kSlots);
      row.eplb_moves += testing_eplb::moves(eplb[layer], next);
      eplb[layer] = std::move(next);
    }
    const Plan plan = EplbFtPlanner().plan(request);
    CONCLAVE_CHECK(plan.replicas >= 1);
    row.our_moves += plan.moves;
    settle(request, plan);
  }
  return row;
}

void BM_Balance(benchmark::State& state) {
  constexpr std::uint32_t kWindows = 100;
  for (auto _ : state) {
    std::printf(
        "drifting Zipf(1), 256 experts, 288 slots, 32 workers, %u windows; live max/mean\n"
        "%6s %6s  %8s %8s %8s  %12s\n",
        kWindows, "drift", "price", "ours", "EPLB", "still", "bytes moved");
    for (const double step : {0.01, 0.02, 0.05}) {
      for (const double price : {0.0, 0.05, 0.1, 0.2}) {
        const Row row = follow(step, price, kWindows);
        const double moved =
            static_cast<double>(row.our_moves) / static_cast<double>(row.eplb_moves);
        std::printf("%6.2f %6.2f  %8.3f %8.3f %8.3f  %10.1f %%\n", step, price, row.ours, row.eplb,
                    row.still, 100 * moved);
      }
    }
  }
}
BENCHMARK(BM_Balance)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace conclave::placement
