#include "roster.hpp"

#include "conclave/base/text.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::scheduler {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

bool reports(wire::NodeRole role) {
  switch (role) {
    case wire::NodeRole::kGateway:
    case wire::NodeRole::kRouter:
    case wire::NodeRole::kExpertWorker:
    case wire::NodeRole::kRegistry:
      return true;
    case wire::NodeRole::kScheduler:
    case wire::NodeRole::kOperator:
      return false;
  }
  return false;
}

}  // namespace

Result<Roster::Arrival> Roster::admit(const wire::NodeReport& report, Time now) {
  if (report.node.empty() || !reports(report.role)) {
    return fail(ErrorCode::kInvalidArgument, "the " + std::string(to_string(report.role)) + " " +
                                                 base::shown(report.node) +
                                                 " has no place in a fleet");
  }
  const auto found = nodes_.find(report.node);
  if (found == nodes_.end()) {
    if (nodes_.size() >= wire::kNodesMax) {
      return fail(ErrorCode::kOverloaded,
                  "a fleet has at most " + std::to_string(wire::kNodesMax) + " nodes");
    }
    nodes_.emplace(report.node, Entry{report, now});
    return Arrival::kJoined;
  }
  Entry& entry = found->second;
  const std::uint64_t known = entry.report.incarnation;
  if (report.incarnation < known) {
    return fail(ErrorCode::kFailedPrecondition,
                base::shown(report.node) + " was started again: this process (" +
                    std::to_string(report.incarnation) + ") is older than the one that reports (" +
                    std::to_string(known) + ")");
  }
  entry = {report, now};
  return report.incarnation == known ? Arrival::kRenewed : Arrival::kRestarted;
}

void Roster::forgive(std::chrono::steady_clock::duration time) {
  for (auto& [name, entry] : nodes_) entry.heard += time;
}

std::vector<wire::NodeReport> Roster::expire(Time now) {
  std::vector<wire::NodeReport> gone;
  for (auto entry = nodes_.begin(); entry != nodes_.end();) {
    if (now - entry->second.heard < lease_) {
      ++entry;
      continue;
    }
    gone.push_back(std::move(entry->second.report));
    entry = nodes_.erase(entry);
  }
  return gone;
}

const Roster::Entry* Roster::find(std::string_view node) const {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? nullptr : &found->second;
}

std::vector<const wire::NodeReport*> Roster::of(wire::NodeRole role) const {
  std::vector<const wire::NodeReport*> found;
  for (const auto& [name, entry] : nodes_) {
    if (entry.report.role == role) found.push_back(&entry.report);
  }
  return found;
}

}  // namespace conclave::scheduler
