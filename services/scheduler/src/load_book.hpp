// How often each expert of the served model is asked for, from what workers report, and when that
// has changed so much that a new plan pays.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "conclave/placement/load_window.hpp"
#include "conclave/placement/planner.hpp"
#include "conclave/wire/placement.hpp"
#include "roster.hpp"

namespace conclave::scheduler {

/// One thread; of one model. Bounded by the fleet and the model: two numbers an expert, and one a
/// copy of it.
class LoadBook {
 public:
  LoadBook(std::uint32_t layers, std::uint32_t experts, std::chrono::milliseconds window, Time now);

  /// What a worker's newest report says of the model. Its totals count from when it opened the
  /// model, so what is first heard of an expert there, and totals that fell, say nothing yet.
  void observe(const std::string& worker, std::uint64_t incarnation,
               const wire::HostedModel& hosted);
  void forget(const std::string& worker) { workers_.erase(worker); }

  /// Closes the window if its time is over. True: the placement of `request` (without loads; those
  /// are filled in) does not fit the load any more, for long enough: plan again.
  bool judge(placement::PlanRequest request, Time now);
  void planned(const placement::Plan& plan);

  [[nodiscard]] std::vector<double> loads() const { return window_.loads(); }
  [[nodiscard]] const placement::LoadWindow& window() const { return window_; }

 private:
  struct Totals {
    std::uint64_t incarnation = 0;
    std::map<std::uint32_t, std::uint64_t> pairs;  // by layer * experts + index
  };

  std::chrono::milliseconds length_;
  Time opened_;
  placement::LoadWindow window_;
  placement::DriftTrigger trigger_;
  std::map<std::string, Totals> workers_;
};

}  // namespace conclave::scheduler
