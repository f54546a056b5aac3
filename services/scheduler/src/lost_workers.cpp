#include "lost_workers.hpp"

#include <utility>

namespace conclave::scheduler {

void LostWorkers::observe(const std::string& router, const std::vector<std::string>& lost,
                          Time now) {
  std::map<std::string, Time>& known = routers_[router];
  std::map<std::string, Time> newest;
  for (const std::string& worker : lost) {
    const auto before = known.find(worker);
    newest.emplace(worker, before == known.end() ? now : before->second);
  }
  known = std::move(newest);
}

std::set<std::string> LostWorkers::lost(std::size_t workers, Time now) const {
  std::map<std::string, std::size_t> voices;
  for (const auto& [router, lost] : routers_) {
    for (const auto& [worker, since] : lost) {
      if (now - since >= confirm_) ++voices[worker];
    }
  }
  std::set<std::string> agreed;
  for (const auto& [worker, count] : voices) {
    if (2 * count > routers_.size()) agreed.insert(worker);
  }
  if (2 * agreed.size() > workers) agreed.clear();
  return agreed;
}

}  // namespace conclave::scheduler
