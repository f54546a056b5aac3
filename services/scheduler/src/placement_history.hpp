// The placements of one version that were planned one after the other, so that the last one can be
// taken back.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>

#include "conclave/placement/planner.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::scheduler {

/// Which experts each worker was to host, by the worker's name.
struct Placement {
  std::string explanation;  // of the plan, for people
  std::map<std::string, wire::ExpertBits> targets;

  friend bool operator==(const Placement&, const Placement&) = default;
};

/// One thread. At most kMax placements: of the fleet as it was long ago little is left.
class PlacementHistory {
 public:
  static constexpr std::size_t kMax = 8;

  PlacementHistory() = default;
  /// The oldest first.
  explicit PlacementHistory(std::deque<Placement> placements);

  /// A plan was made of this request. False: it changes nothing, and is not remembered.
  bool planned(const placement::PlanRequest& request, const placement::Plan& plan);

  /// The oldest first, the last one is in force; empty: nothing was planned yet.
  [[nodiscard]] const std::deque<Placement>& placements() const { return placements_; }
  [[nodiscard]] bool has_former() const { return placements_.size() > 1; }

  /// For who plans for the first time: workers count as told what the placement in force says.
  void fill_in(placement::PlanRequest& request) const;
  /// Makes the request one for the placement before the one in force, as if it were in place and
  /// nothing were to be moved: what its plan adds is what that placement lacks now. There must be
  /// one (checked).
  void ask_for_former(placement::PlanRequest& request) const;
  /// That was rolled out: the placement in force is forgotten, and this takes the place of the
  /// former one.
  void rolled_back(const placement::PlanRequest& request, const placement::Plan& plan);

 private:
  std::deque<Placement> placements_;
};

}  // namespace conclave::scheduler
