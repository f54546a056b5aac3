#include <algorithm>
#include <cstdint>
#include <vector>

#include "bits.hpp"
#include "conclave/base/check.hpp"
#include "conclave/placement/planner.hpp"

namespace conclave::placement {
namespace {

using wire::ExpertBits;

// Copies of every (layer, expert): the workers, and their speed together.
struct Copies {
  std::vector<std::vector<std::uint32_t>> workers;
  std::vector<double> speeds;
};

Copies read(const PlanRequest& request, std::span<const ExpertBits> targets) {
  const std::size_t items = std::size_t{request.shape.layers} * request.shape.experts;
  Copies copies{std::vector<std::vector<std::uint32_t>>(items), std::vector<double>(items)};
  for (std::uint32_t w = 0; w < targets.size(); ++w) {
    for_each(targets[w], [&](std::uint32_t layer, std::uint32_t expert) {
      const std::size_t item = std::size_t{layer} * request.shape.experts + expert;
      copies.workers[item].push_back(w);
      copies.speeds[item] += request.workers[w].speed;
    });
  }
  return copies;
}

double load_of(const PlanRequest& request, std::size_t item) {
  return request.loads.empty() ? 1.0 : request.loads[item];
}

// Of all workers' time that the worst loss of one leaves to the busiest, by what would be even.
double after_loss(const PlanRequest& request, const Copies& copies,
                  const std::vector<double>& weights, const std::vector<double>& totals,
                  double speed_all, double load_all) {
  std::vector<std::vector<std::size_t>> hosted(totals.size());
  for (std::size_t item = 0; item < copies.workers.size(); ++item) {
    for (const std::uint32_t w : copies.workers[item]) hosted[w].push_back(item);
  }
  double worst = 1;
  std::vector<double> left;
  for (std::uint32_t lost = 0; lost < totals.size(); ++lost) {
    const double speed_lost = request.workers[lost].speed;
    if (hosted[lost].empty() || speed_all <= speed_lost) continue;
    left = totals;
    for (const std::size_t item : hosted[lost]) {
      const double rest = copies.speeds[item] - speed_lost;
      if (copies.workers[item].size() < 2 || rest <= 0) continue;
      const double rise = weights[item] * (1 / rest - 1 / copies.speeds[item]);
      for (const std::uint32_t w : copies.workers[item]) left[w] += rise;
    }
    left[lost] = 0;
    const double even = load_all / (speed_all - speed_lost);
    worst = std::max(worst, *std::max_element(left.begin(), left.end()) / even);
  }
  return worst;
}

}  // namespace

Balance predict(const PlanRequest& request, std::span<const ExpertBits> targets) {
  const ModelShape& shape = request.shape;
  CONCLAVE_CHECK(targets.size() == request.workers.size());
  const Copies copies = read(request, targets);
  double speed_all = 0;
  for (const PlanWorker& worker : request.workers) {
    if (!worker.leaving && room_of(worker, shape) > 0) speed_all += worker.speed;
  }
  Balance balance;
  if (speed_all <= 0) return balance;
  std::vector<double> weights(copies.workers.size());  // shares of the layer
  std::vector<double> totals(targets.size());
  double sum = 0;
  double activated = 0;
  double load_all = 0;
  std::uint32_t layers = 0;
  for (std::uint32_t layer = shape.dense_layers; layer < shape.layers; ++layer) {
    const std::size_t first = std::size_t{layer} * shape.experts;
    double load = 0;
    for (std::uint32_t e = 0; e < shape.experts; ++e) {
      if (!copies.workers[first + e].empty()) load += load_of(request, first + e);
    }
    if (load <= 0) continue;
    std::vector<double> times(targets.size());
    for (std::uint32_t e = 0; e < shape.experts; ++e) {
      const std::size_t item = first + e;
      if (copies.workers[item].empty()) continue;
      weights[item] = load_of(request, item) / load;
      for (const std::uint32_t w : copies.workers[item]) {
        times[w] += weights[item] / copies.speeds[item];
      }
      activated += static_cast<double>(copies.workers[item].size());
    }
    const double busiest = *std::max_element(times.begin(), times.end()) * speed_all;
    for (std::size_t w = 0; w < times.size(); ++w) totals[w] += times[w];
    sum += busiest;
    balance.worst = std::max(balance.worst, busiest);
    ++layers;
    load_all += 1;
  }
  if (layers == 0) return balance;
  balance.mean = sum / layers;
  balance.total = *std::max_element(totals.begin(), totals.end()) * speed_all / layers;
  balance.after_loss = after_loss(request, copies, weights, totals, speed_all, load_all);
  balance.activated = activated / layers / static_cast<double>(targets.size());
  return balance;
}

Balance predict(const PlanRequest& request) {
  const ModelShape& shape = request.shape;
  std::vector<ExpertBits> held;
  for (const PlanWorker& worker : request.workers) {
    const ExpertBits& bits = worker.assigned.count() > 0 ? worker.assigned : worker.resident;
    held.push_back(worker.leaving || bits.experts() == 0 ? ExpertBits(shape.layers, shape.experts)
                                                         : bits);
  }
  return predict(request, held);
}

}  // namespace conclave::placement
