// The part of the core that outlives it: what people said of workers and experts, the placements
// that were planned, and what went wrong with them.
#include <algorithm>
#include <utility>

#include "bits.hpp"
#include "conclave/base/text.hpp"
#include "conclave/wire/limits.hpp"
#include "scheduler_core.hpp"

namespace conclave::scheduler {

using base::ErrorCode;
using base::fail;
using base::Status;
using wire::NodeRole;

Status SchedulerCore::set_standing(const std::string& worker, Standing standing, Time now) {
  const Roster::Entry* known = roster_.find(worker);
  if (known == nullptr || known->report.role != NodeRole::kExpertWorker) {
    return fail(ErrorCode::kNotFound, "there is no worker " + base::shown(worker));
  }
  if (standing == Standing::kInService) {
    standings_.erase(worker);
  } else if (standings_.contains(worker) || make_room_for_standing()) {
    standings_[worker] = standing;
  } else {
    return fail(ErrorCode::kOverloaded, "too many workers are cordoned or draining");
  }
  ++kept_change_;
  log_.info("worker_standing", {{"worker", worker}, {"standing", name_of(standing)}});
  change_plans();
  refresh(now);
  return {};
}

SchedulerCore::Standing SchedulerCore::standing(const std::string& worker) const {
  const auto known = standings_.find(worker);
  return known == standings_.end() ? Standing::kInService : known->second;
}

// Names of workers that are gone for good pile up where pods come and go.
bool SchedulerCore::make_room_for_standing() {
  if (standings_.size() < wire::kNodesMax) return true;
  const auto gone = std::ranges::find_if(
      standings_, [&](const auto& entry) { return roster_.find(entry.first) == nullptr; });
  if (gone == standings_.end()) return false;
  standings_.erase(gone);
  return true;
}

base::Result<placement::Plan> SchedulerCore::roll_back(const ServedVersion& version, Time now) {
  CONCLAVE_TRY_VOID(preview(version));
  ServedVersion& rolled = *find(version.version());
  if (!rolled.history.has_former()) {
    return fail(ErrorCode::kFailedPrecondition, "there is no placement before the present one");
  }
  const placement::PlanRequest present = this->request(rolled);
  placement::PlanRequest request = present;
  rolled.history.ask_for_former(request);
  placement::Plan made = planner_->plan(request);
  // It counted from the former placement; people count from the present one.
  made.moves = made.drops = 0;
  for (std::size_t i = 0; i < made.targets.size(); ++i) {
    const placement::PlanWorker& worker = present.workers[i];
    const wire::ExpertBits held =
        worker.assigned.layers() == 0 ? worker.resident : worker.assigned | worker.resident;
    made.moves += (made.targets[i] - held).count();
    made.drops += (held - made.targets[i]).count();
  }
  made.bytes_moved = made.moves * present.shape.expert_bytes;
  made.before = placement::predict(present);
  made.explanation = "back to the placement before; " + made.explanation;
  rolled.history.rolled_back(request, made);
  ++kept_change_;
  adopt(rolled, present, made);
  refresh(now);
  return made;
}

// ---- from one scheduler to the next ----

Kept SchedulerCore::kept() const {
  Kept kept{standings_, recalled_};
  for (const ServedVersion& version : versions_) {
    KeptModel& model = kept.models[version.name()];
    model = {{}, version.history.placements()};
    for (const auto& [expert, pin] : version.pins) model.pins.push_back(pin);
  }
  return kept;
}

void SchedulerCore::restore(Kept kept, Time now) {
  for (auto& [worker, standing] : kept.standings) {
    if (standings_.size() < wire::kNodesMax) standings_.try_emplace(worker, standing);
  }
  recalled_ = std::move(kept.models);
  while (recalled_.size() > wire::kVersionsMax) recalled_.erase(recalled_.begin());
  for (ServedVersion& version : versions_) recall(version);
  change_plans();
  refresh(now);
}

void SchedulerCore::recall(ServedVersion& version) {
  auto known = recalled_.extract(version.name());
  if (!known) return;
  for (placement::Pin& pin : known.mapped().pins) {
    const std::pair expert(pin.layer, pin.expert);
    version.pins.try_emplace(expert, std::move(pin));
  }
  if (version.history.placements().empty()) {
    version.history = PlacementHistory(std::move(known.mapped().placements));
  }
}

// ---- what goes wrong ----

void SchedulerCore::note_lost_workers(Time now) {
  auto lost = lost_workers_.lost(roster_.of(NodeRole::kExpertWorker).size(), now);
  std::erase_if(lost, [this](const std::string& worker) {
    return roster_.find(worker) == nullptr;  // its lease has run out
  });
  if (lost == lost_) return;
  for (const std::string& worker : lost) {
    if (!lost_.contains(worker)) log_.warn("worker_out_of_reach", {{"worker", worker}});
  }
  for (const std::string& worker : lost_) {
    if (!lost.contains(worker)) log_.info("worker_in_reach", {{"worker", worker}});
  }
  lost_ = std::move(lost);
  change_plans();
}

// What is where it is stays there, and the step that failed is not taken again.
void SchedulerCore::note_failed_steps(ServedVersion& version, Time now) {
  bool has_failed = false;
  for (const wire::NodeReport* worker : roster_.of(NodeRole::kExpertWorker)) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> refused;
    for (const wire::RefusedExpert& expert : worker->refused) {
      if (!wire::is_same_bytes(expert.model, version.version())) continue;
      refused.emplace_back(expert.layer, expert.index);
    }
    const wire::ExpertBits pending = version.rollout.pending(worker->node);
    if (!version.steps.observe(worker->node, worker->incarnation, pending, refused, now)) continue;
    has_failed = true;
    ++failed_steps_total_;
    log_.warn("step_failed", {{"model", version.name()},
                              {"worker", worker->node},
                              {"pending", pending.count()},
                              {"refused", refused.size()}});
  }
  if (!has_failed || version.plan_is_due) return;
  version.may_rebalance = false;
  plan(version);
}

}  // namespace conclave::scheduler
