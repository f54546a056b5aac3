// A scheduler that decides nothing: it keeps the reports that come and answers them as a test says.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conclave/fleet/process.hpp"
#include "conclave/testkit/events.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::testkit {

/// Any thread. The process must outlive it. When it ends, its nodes lose it as they lose a
/// scheduler that was stopped.
class FakeScheduler {
 public:
  explicit FakeScheduler(fleet::Process& process,
                         const std::string& address = "inproc://scheduler");
  ~FakeScheduler();
  FakeScheduler(const FakeScheduler&) = delete;
  FakeScheduler& operator=(const FakeScheduler&) = delete;

  /// Where nodes find it, with the real port.
  [[nodiscard]] const std::string& address() const;

  /// What nodes get whose epoch_seen is lower; they are told to ask.
  void publish(std::vector<wire::RoutingTable> tables);
  void publish(wire::RoutingTable table) { publish(std::vector{std::move(table)}); }
  void assign(const std::string& worker, std::vector<wire::Assignment> assignments);
  void assign(const std::string& worker, wire::Assignment assignment) {
    assign(worker, std::vector{std::move(assignment)});
  }
  /// Of the answers from now on; 60 s at first.
  void set_lease(std::chrono::milliseconds lease);

  /// Leaves reports unanswered until release().
  void hold();
  void release();
  /// Tells a node that is linked to report now; waits until it is.
  void nudge(const std::string& node);

  /// The next report of this node that fits, now or later; earlier ones are dropped.
  std::optional<wire::NodeReport> wait_report(
      const std::string& node,
      const std::function<bool(const wire::NodeReport&)>& fits = [](const auto&) { return true; });
  /// Reports that have come so far, of all nodes.
  [[nodiscard]] int reports() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::testkit
