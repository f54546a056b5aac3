#include "served_version.hpp"

#include <algorithm>

namespace conclave::scheduler {

namespace {

// Experts of one model take about the same: those of the unknown are taken to be as large as the
// mean of the others'.
double expert_bytes(const ServedModel& model, const std::vector<const ServedModel*>& all) {
  if (model.is_known()) return static_cast<double>(model.shape.expert_bytes);
  double sum = 0;
  double count = 0;
  for (const ServedModel* other : all) {
    if (!other->is_known()) continue;
    sum += static_cast<double>(other->shape.expert_bytes);
    count += 1;
  }
  return count == 0 ? 1 : sum / count;
}

double experts_of(const ServedModel& model) {
  return static_cast<double>(model.shape.experts_total());
}

}  // namespace

Share share_of(const Rollout::Limits& worker, const ServedModel& model,
               const std::vector<const ServedModel*>& all) {
  if (all.size() == 1) return {worker.memory_bytes, worker.slots};
  double bytes = 0;
  double experts = 0;
  for (const ServedModel* other : all) {
    bytes += experts_of(*other) * expert_bytes(*other, all);
    experts += experts_of(*other);
  }
  Share share;
  share.memory_bytes =
      static_cast<std::uint64_t>(static_cast<double>(worker.memory_bytes) *
                                 (experts_of(model) * expert_bytes(model, all) / bytes));
  if (worker.slots != 0) {
    const double slots = static_cast<double>(worker.slots) * experts_of(model) / experts;
    share.slots = static_cast<std::uint32_t>(slots);
    if (share.slots == 0) share.memory_bytes = 0;  // 0 slots would mean: as memory allows
  }
  return share;
}

bool fit_together(const std::vector<Rollout::Limits>& workers,
                  const std::vector<const ServedModel*>& all) {
  return std::ranges::all_of(all, [&](const ServedModel* model) {
    double room = 0;
    for (const Rollout::Limits& worker : workers) {
      if (worker.leaving) continue;
      const Share share = share_of(worker, *model, all);
      double experts = static_cast<double>(share.memory_bytes) / expert_bytes(*model, all);
      if (share.slots != 0) experts = std::min(experts, static_cast<double>(share.slots));
      room +=
          std::min(static_cast<double>(static_cast<std::uint64_t>(experts)), experts_of(*model));
    }
    return room >= experts_of(*model);
  });
}

}  // namespace conclave::scheduler
