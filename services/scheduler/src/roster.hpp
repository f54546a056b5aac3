// Who is in the fleet: a lease for each node, renewed by its reports. No opinion on what a node is
// for.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::scheduler {

using Time = std::chrono::steady_clock::time_point;

/// One thread. At most wire::kNodesMax nodes.
class Roster {
 public:
  enum class Arrival { kJoined, kRestarted, kRenewed };

  struct Entry {
    wire::NodeReport report;  // the newest
    Time heard;
  };

  explicit Roster(std::chrono::milliseconds lease) : lease_(lease) {}

  /// kInvalidArgument: no name, or a role that does not report; kFailedPrecondition: an incarnation
  /// that was replaced by a newer one; kOverloaded: the fleet is full.
  base::Result<Arrival> admit(const wire::NodeReport& report, Time now);

  /// Lengthens all leases by a time in which nobody could be heard.
  void forgive(std::chrono::steady_clock::duration time);

  /// Removes those whose lease has run out, and returns their last reports.
  std::vector<wire::NodeReport> expire(Time now);

  [[nodiscard]] const std::map<std::string, Entry, std::less<>>& nodes() const { return nodes_; }
  /// nullptr if there is no such node.
  [[nodiscard]] const Entry* find(std::string_view node) const;
  /// Reports of the live nodes of a role, by name. Valid until the next admit or expire.
  [[nodiscard]] std::vector<const wire::NodeReport*> of(wire::NodeRole role) const;

 private:
  std::chrono::milliseconds lease_;
  std::map<std::string, Entry, std::less<>> nodes_;
};

}  // namespace conclave::scheduler
