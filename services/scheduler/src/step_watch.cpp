#include "step_watch.hpp"

#include "bits.hpp"

namespace conclave::scheduler {

bool StepWatch::observe(const std::string& worker, std::uint64_t incarnation,
                        const wire::ExpertBits& pending,
                        const std::vector<std::pair<std::uint32_t, std::uint32_t>>& refused,
                        Time now) {
  Steps& steps = workers_[worker];
  if (steps.incarnation != incarnation || steps.failed.layers() != pending.layers() ||
      steps.failed.experts() != pending.experts()) {
    steps = {incarnation, pending, now, wire::ExpertBits(pending.layers(), pending.experts())};
  }
  if (!(steps.pending == pending)) {
    steps.pending = pending;
    steps.progressed = now;
  }
  const std::size_t before = steps.failed.count();
  for (const auto& [layer, index] : refused) {
    if (layer < pending.layers() && index < pending.experts()) steps.failed.set(layer, index);
  }
  if (now - steps.progressed >= deadline_) steps.failed = steps.failed | pending;
  return steps.failed.count() != before;
}

std::vector<placement::Pin> StepWatch::bars(
    const std::vector<placement::PlanWorker>& workers) const {
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<std::string>> barred;
  for (const placement::PlanWorker& worker : workers) {
    const auto known = workers_.find(worker.name);
    if (known == workers_.end()) continue;
    for_each(known->second.failed, [&](std::uint32_t layer, std::uint32_t index) {
      barred[{layer, index}].push_back(worker.name);
    });
  }
  std::vector<placement::Pin> bars;
  for (auto& [expert, names] : barred) {
    if (names.size() == workers.size()) continue;  // nobody else is left to ask
    bars.push_back(
        {expert.first, expert.second, placement::Pin::Kind::kNever, "", std::move(names)});
  }
  return bars;
}

}  // namespace conclave::scheduler
