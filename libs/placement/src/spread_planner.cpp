#include <algorithm>
#include <numeric>

#include "conclave/base/check.hpp"
#include "conclave/placement/planner.hpp"
#include "explain.hpp"
#include "placer.hpp"
#include "quotas.hpp"

namespace conclave::placement {
namespace {

using wire::ExpertBits;

// Workers that can get something, and what there is to give.
struct Problem {
  std::vector<std::size_t> workers;  // of the request
  std::vector<std::uint64_t> room;
  std::uint64_t copies = 0;  // of all experts together
  std::uint32_t copies_wanted = 0;
};

Problem read(const PlanRequest& request) {
  Problem problem;
  for (std::size_t i = 0; i < request.workers.size(); ++i) {
    const std::uint64_t room = room_of(request.workers[i], request.shape);
    if (request.workers[i].leaving || room == 0) continue;
    problem.workers.push_back(i);
    problem.room.push_back(room);
  }
  // No worker gets two copies of one expert.
  problem.copies_wanted =
      std::min(request.replicas, static_cast<std::uint32_t>(problem.workers.size()));
  problem.copies =
      std::min(problem.copies_wanted * request.shape.experts_total(),
               std::accumulate(problem.room.begin(), problem.room.end(), std::uint64_t{0}));
  return problem;
}

Holding holding(const PlanWorker& worker, std::uint32_t layer, std::uint32_t expert) {
  if (worker.resident.test(layer, expert)) return Holding::kResident;
  if (worker.assigned.test(layer, expert)) return Holding::kAssigned;
  return Holding::kNone;
}

// The experts of layers [first, last) as one problem of placing.
PlacerInput placing(const PlanRequest& request, const Problem& problem, std::uint32_t first,
                    std::uint32_t last) {
  const std::uint32_t experts = request.shape.experts;
  PlacerInput input;
  input.copies.resize(std::size_t{last - first} * experts);
  input.held.reserve(input.copies.size() * problem.workers.size());
  for (const std::size_t worker : problem.workers) {
    for (std::uint32_t layer = first; layer < last; ++layer) {
      for (std::uint32_t expert = 0; expert < experts; ++expert) {
        input.held.push_back(holding(request.workers[worker], layer, expert));
      }
    }
  }
  return input;
}

void set_copies(PlacerInput& input, std::uint64_t copies) {
  const std::uint64_t items = input.copies.size();
  input.copies.assign(items, static_cast<std::uint32_t>(copies / items));
  input.one_more = copies % items != 0;
}

void store(const std::vector<std::uint8_t>& placed, const PlanRequest& request,
           const Problem& problem, std::uint32_t first, std::uint32_t last, Plan& plan) {
  std::size_t at = 0;
  for (const std::size_t worker : problem.workers) {
    for (std::uint32_t layer = first; layer < last; ++layer) {
      for (std::uint32_t expert = 0; expert < request.shape.experts; ++expert) {
        if (placed[at++] != 0) plan.targets[worker].set(layer, expert);
      }
    }
  }
}

void place_layers(const PlanRequest& request, const Problem& problem, Plan& plan) {
  const ModelShape& shape = request.shape;
  const std::uint32_t layers = shape.layers - shape.dense_layers;
  const std::size_t workers = problem.workers.size();
  std::vector<PlacerInput> inputs;
  std::vector<std::uint32_t> holds;  // (layer, worker)
  std::vector<std::uint64_t> holds_in_all(workers);
  for (std::uint32_t layer = shape.dense_layers; layer < shape.layers; ++layer) {
    inputs.push_back(placing(request, problem, layer, layer + 1));
    for (std::size_t i = 0; i < workers; ++i) {
      const auto row = inputs.back().held.begin() + static_cast<std::ptrdiff_t>(i * shape.experts);
      const auto held = static_cast<std::uint32_t>(
          std::count_if(row, row + shape.experts, [](Holding h) { return h != Holding::kNone; }));
      holds.push_back(held);
      holds_in_all[i] += held;
    }
  }
  const auto shares = share_out(problem.copies, problem.room, holds_in_all);
  const auto quotas = spread_over_layers(shares, layers, holds);
  for (std::uint32_t i = 0; i < layers; ++i) {
    const auto quota = quotas.begin() + static_cast<std::ptrdiff_t>(i * workers);
    inputs[i].room.assign(quota, quota + static_cast<std::ptrdiff_t>(workers));
    set_copies(inputs[i],
               std::accumulate(inputs[i].room.begin(), inputs[i].room.end(), std::uint64_t{0}));
    const std::uint32_t layer = shape.dense_layers + i;
    store(Placer(inputs[i]).place(), request, problem, layer, layer + 1, plan);
  }
}

// All layers at once, since only the room of a worker as a whole counts.
void place_missing(const PlanRequest& request, const Problem& problem, Plan& plan) {
  const ModelShape& shape = request.shape;
  PlacerInput input = placing(request, problem, shape.dense_layers, shape.layers);
  for (const std::uint64_t room : problem.room) {
    input.room.push_back(static_cast<std::uint32_t>(room));
  }
  set_copies(input, problem.copies);
  input.may_displace = false;
  store(Placer(input).place(), request, problem, shape.dense_layers, shape.layers, plan);
}

}  // namespace

std::uint64_t room_of(const PlanWorker& worker, const ModelShape& shape) {
  CONCLAVE_CHECK(shape.expert_bytes > 0);
  const std::uint64_t room =
      std::min(worker.memory_bytes / shape.expert_bytes, shape.experts_total());
  return worker.slots == 0 ? room : std::min<std::uint64_t>(room, worker.slots);
}

Plan SpreadPlanner::plan(const PlanRequest& request) const {
  const ModelShape& shape = request.shape;
  CONCLAVE_CHECK(shape.dense_layers < shape.layers && shape.experts > 0 && request.replicas > 0);
  Plan plan;
  plan.targets.assign(request.workers.size(), ExpertBits(shape.layers, shape.experts));
  const Problem problem = read(request);
  if (!problem.workers.empty()) {
    if (request.rebalance) {
      place_layers(request, problem, plan);
    } else {
      place_missing(request, problem, plan);
    }
  }
  count(request, plan);
  if (plan.replicas < request.replicas) plan.reason = explain_shortage(request, plan.replicas);
  return plan;
}

}  // namespace conclave::placement
