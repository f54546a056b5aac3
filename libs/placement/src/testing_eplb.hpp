// DeepSeek's expert-parallel load balancer as published (github.com/deepseek-ai/EPLB, eplb.py, its
// global policy), written anew from its description, to compare with: it replicates whatever is
// hottest by copy and packs the copies, heaviest first, each to the least loaded worker that is not
// full. It knows neither what is held nor that two copies on one worker survive nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

namespace conclave::placement::testing_eplb {

struct Placement {
  std::vector<std::vector<std::uint32_t>> hosted;  // by worker: experts, some perhaps twice
  std::vector<std::uint32_t> copies;               // by expert
};

/// One layer: `slots` copies in all (>= experts, a multiple of `workers`).
inline Placement place(const std::vector<double>& load, std::uint32_t workers,
                       std::uint32_t slots) {
  const auto experts = static_cast<std::uint32_t>(load.size());
  Placement placement{std::vector<std::vector<std::uint32_t>>(workers),
                      std::vector<std::uint32_t>(experts, 1)};
  std::vector<std::uint32_t> physical(experts);
  std::iota(physical.begin(), physical.end(), 0u);
  for (std::uint32_t slot = experts; slot < slots; ++slot) {
    std::uint32_t hottest = 0;
    for (std::uint32_t e = 1; e < experts; ++e) {
      if (load[e] / placement.copies[e] > load[hottest] / placement.copies[hottest]) hottest = e;
    }
    physical.push_back(hottest);
    ++placement.copies[hottest];
  }
  const auto weight = [&](std::uint32_t e) { return load[e] / placement.copies[e]; };
  std::stable_sort(physical.begin(), physical.end(),
                   [&](auto a, auto b) { return weight(a) > weight(b); });
  std::vector<double> busy(workers);
  for (const std::uint32_t e : physical) {
    std::uint32_t best = workers;
    for (std::uint32_t w = 0; w < workers; ++w) {
      if (placement.hosted[w].size() >= slots / workers) continue;
      // Sums of the same weights in another order are as much.
      if (best == workers || busy[w] < busy[best] * (1 - 1e-12)) best = w;
    }
    placement.hosted[best].push_back(e);
    busy[best] += weight(e);
  }
  return placement;
}

/// Busiest worker by the mean, under this load. Workers that host an expert share its load equally:
/// two copies on one worker are one, as it has the weights once.
inline double max_over_mean(const Placement& placement, const std::vector<double>& load) {
  std::vector<std::set<std::uint32_t>> hosted;
  std::vector<std::uint32_t> workers_of(load.size());
  for (const auto& experts : placement.hosted) {
    hosted.emplace_back(experts.begin(), experts.end());
    for (const std::uint32_t e : hosted.back()) ++workers_of[e];
  }
  double most = 0;
  for (const auto& experts : hosted) {
    double busy = 0;
    for (const std::uint32_t e : experts) busy += load[e] / workers_of[e];
    most = std::max(most, busy);
  }
  const double sum = std::accumulate(load.begin(), load.end(), 0.0);
  return most / (sum / static_cast<double>(hosted.size()));
}

/// Experts that workers of `next` must load which they do not hold in `now`.
inline std::size_t moves(const Placement& now, const Placement& next) {
  std::size_t count = 0;
  for (std::size_t w = 0; w < next.hosted.size(); ++w) {
    const std::set<std::uint32_t> held(now.hosted[w].begin(), now.hosted[w].end());
    const std::set<std::uint32_t> wanted(next.hosted[w].begin(), next.hosted[w].end());
    for (const std::uint32_t e : wanted) count += held.count(e) == 0 ? 1u : 0u;
  }
  return count;
}

}  // namespace conclave::placement::testing_eplb
