#include "placement_history.hpp"

#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::scheduler {

namespace {

Placement placement_of(const placement::PlanRequest& request, const placement::Plan& plan) {
  CONCLAVE_CHECK(request.workers.size() == plan.targets.size());
  Placement placement{plan.explanation, {}};
  for (std::size_t i = 0; i < plan.targets.size(); ++i) {
    if (plan.targets[i].count() != 0) {
      placement.targets.emplace(request.workers[i].name, plan.targets[i]);
    }
  }
  return placement;
}

// What the placement gives a worker; nothing if it has another shape, or none of it.
wire::ExpertBits of_worker(const Placement& placement, const std::string& worker,
                           const placement::ModelShape& shape) {
  const auto found = placement.targets.find(worker);
  const bool is_there = found != placement.targets.end() &&
                        found->second.layers() == shape.layers &&
                        found->second.experts() == shape.experts;
  return is_there ? found->second : wire::ExpertBits(shape.layers, shape.experts);
}

}  // namespace

PlacementHistory::PlacementHistory(std::deque<Placement> placements)
    : placements_(std::move(placements)) {
  while (placements_.size() > kMax) placements_.pop_front();
}

bool PlacementHistory::planned(const placement::PlanRequest& request, const placement::Plan& plan) {
  Placement made = placement_of(request, plan);
  if (!placements_.empty() && placements_.back().targets == made.targets) return false;
  placements_.push_back(std::move(made));
  if (placements_.size() > kMax) placements_.pop_front();
  return true;
}

void PlacementHistory::fill_in(placement::PlanRequest& request) const {
  if (placements_.empty()) return;
  for (placement::PlanWorker& worker : request.workers) {
    if (worker.assigned.count() != 0) continue;
    worker.assigned = of_worker(placements_.back(), worker.name, request.shape);
  }
}

void PlacementHistory::ask_for_former(placement::PlanRequest& request) const {
  CONCLAVE_CHECK(has_former());
  const Placement& former = placements_[placements_.size() - 2];
  request.rebalance = false;
  for (placement::PlanWorker& worker : request.workers) {
    worker.resident = worker.assigned = of_worker(former, worker.name, request.shape);
  }
}

void PlacementHistory::rolled_back(const placement::PlanRequest& request,
                                   const placement::Plan& plan) {
  CONCLAVE_CHECK(has_former());
  placements_.pop_back();
  placements_.back() = placement_of(request, plan);
}

}  // namespace conclave::scheduler
