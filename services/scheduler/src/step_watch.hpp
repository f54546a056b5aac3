// Steps of a roll-out that fail: experts that a worker refuses, or does not get ready in time. Such
// a worker is not asked for them again, and what was there before stays.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "conclave/placement/planner.hpp"
#include "conclave/wire/placement.hpp"
#include "roster.hpp"

namespace conclave::scheduler {

/// One thread; of one version. Bounded by the fleet and the version: a set of experts a worker.
class StepWatch {
 public:
  /// Experts come one after the other: a worker that gets none ready for so long has failed.
  explicit StepWatch(std::chrono::milliseconds deadline) : deadline_(deadline) {}

  /// What a live worker was told to load and has not got ready, and what it refuses. Another
  /// incarnation is trusted again. True: a step has failed just now.
  bool observe(const std::string& worker, std::uint64_t incarnation,
               const wire::ExpertBits& pending,
               const std::vector<std::pair<std::uint32_t, std::uint32_t>>& refused, Time now);
  void forget(const std::string& worker) { workers_.erase(worker); }
  /// Everybody is trusted again.
  void forgive() { workers_.clear(); }

  /// Keeps each expert from the workers that failed it, unless that were all of the request.
  [[nodiscard]] std::vector<placement::Pin> bars(
      const std::vector<placement::PlanWorker>& workers) const;

 private:
  struct Steps {
    std::uint64_t incarnation = 0;
    wire::ExpertBits pending;
    Time progressed;
    wire::ExpertBits failed;
  };

  std::chrono::milliseconds deadline_;
  std::map<std::string, Steps> workers_;
};

}  // namespace conclave::scheduler
