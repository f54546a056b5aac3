#include "load_book.hpp"

#include <utility>

#include "bits.hpp"

namespace conclave::scheduler {

LoadBook::LoadBook(std::uint32_t layers, std::uint32_t experts, std::chrono::milliseconds window,
                   Time now)
    : length_(window), opened_(now), window_(layers, experts) {}

void LoadBook::observe(const std::string& worker, std::uint64_t incarnation,
                       const wire::HostedModel& hosted) {
  const bool is_ours = hosted.ready.layers() == window_.layers() &&
                       hosted.ready.experts() == window_.experts() &&
                       hosted.expert_pairs.size() == hosted.ready.count();
  if (!is_ours) return;
  Totals& before = workers_[worker];
  const bool is_known = before.incarnation == incarnation;
  Totals now{incarnation, {}};
  std::size_t bit = 0;
  for_each(hosted.ready, [&](std::uint32_t layer, std::uint32_t index) {
    const std::uint64_t pairs = hosted.expert_pairs[bit++];
    const std::uint32_t key = layer * window_.experts() + index;
    now.pairs[key] = pairs;
    const auto known = before.pairs.find(key);
    if (!is_known || known == before.pairs.end() || pairs < known->second) return;
    window_.add(layer, index, pairs - known->second);
  });
  before = std::move(now);
}

bool LoadBook::judge(placement::PlanRequest request, Time now) {
  const auto open_for = std::chrono::duration_cast<std::chrono::milliseconds>(now - opened_);
  if (open_for < length_) return false;
  opened_ = now;
  window_.close(open_for);
  if (window_.pairs_total() == 0) return false;
  request.loads = window_.loads();
  return trigger_.observe(placement::predict(request).mean, window_.drift());
}

void LoadBook::planned(const placement::Plan& plan) {
  window_.mark_placed();
  trigger_.planned(plan.after.mean);
}

}  // namespace conclave::scheduler
