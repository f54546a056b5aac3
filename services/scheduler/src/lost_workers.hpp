// Workers that routers cannot reach, before their leases run out: what several routers agree on,
// for a little while, is believed.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "roster.hpp"

namespace conclave::scheduler {

/// One thread. Bounded by the routers of the fleet and the workers that each lists.
class LostWorkers {
 public:
  explicit LostWorkers(std::chrono::milliseconds confirm) : confirm_(confirm) {}

  /// A router's newest report: all that it cannot reach.
  void observe(const std::string& router, const std::vector<std::string>& lost, Time now);
  void forget(const std::string& router) { routers_.erase(router); }

  /// Those that more than half of the routers have not reached for as long as it takes to be
  /// believed, so that one bad router unseats nobody whom others reach. None if that were more than
  /// half of `workers`: then the fault is the routers', or their network's.
  [[nodiscard]] std::set<std::string> lost(std::size_t workers, Time now) const;

 private:
  std::chrono::milliseconds confirm_;
  std::map<std::string, std::map<std::string, Time>> routers_;  // worker -> since when
};

}  // namespace conclave::scheduler
