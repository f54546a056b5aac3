// A node's place in the fleet: reports to the scheduler that leads once an interval and whenever
// something changed, hands back what it answers, and finds it, or the next leader, again after a
// break. It does not know what a node does with an assignment or a table.
#pragma once

#include <caf/actor_system.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::fleet {

struct MemberOptions {
  /// Standby schedulers are few, and each costs a link of every node.
  static constexpr std::size_t kSchedulersMax = 8;

  std::vector<std::string> schedulers;  // their addresses; at least one
  std::chrono::milliseconds interval{1000};
  std::string zone;  // of every report
};

/// Both run on the member's actor, one at a time; short, and safe against the node's own threads.
struct MemberCallbacks {
  /// Everything but node, role, incarnation and zone, which the member fills in.
  std::function<wire::NodeReport()> report;
  std::function<void(wire::ReportReply)> apply;
  /// The scheduler at the other end of this link leads now. May be empty.
  std::function<void(fabric::LinkId)> led = {};
};

/// Any thread. The node and the actor system must outlive it. One a node: it takes the node's name
/// `reporter`.
class Member {
 public:
  /// Returns at once; no scheduler need be there. Errors of Node::connect; kInvalidArgument: no
  /// address, or more than kSchedulersMax.
  static base::Result<std::unique_ptr<Member>> join(fabric::Node& node, caf::actor_system& system,
                                                    const MemberOptions& options,
                                                    MemberCallbacks callbacks,
                                                    telemetry::Logger log);
  /// Ends the actor and waits for that: no callback runs once it returned. Not from a callback.
  ~Member();
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;

  /// Something changed: report as soon as the report in flight, if any, is answered. However often
  /// it is called meanwhile, one more report follows.
  void report_now();

  /// A scheduler that leads answered within its lease.
  [[nodiscard]] bool in_touch() const;

 private:
  class Impl;
  explicit Member(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::fleet
