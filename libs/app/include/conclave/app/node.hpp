// What a process calls itself, and how long it may take to leave.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::app {

struct NodeSettings {
  std::string name;
  std::string zone;
  // Kubernetes sends SIGKILL 30 s after SIGTERM (terminationGracePeriodSeconds): stay below it.
  std::chrono::milliseconds drain_timeout{25'000};

  template <class Visitor>
  void visit(Visitor&& v) {
    using std::chrono::milliseconds;
    v("name", name, "Name in the fleet, [a-z0-9.-]{1,63} (default: the service and the host)");
    v("zone", zone,
      "Where it stands (a rack, an availability zone), [A-Za-z0-9._-]{1,63}: copies of an expert "
      "go "
      "to different ones");
    v("drain-timeout-ms", drain_timeout, milliseconds{0}, milliseconds{3'600'000},
      "Longest wait for work in progress when the process is told to stop");
  }
};

/// `name` if it is [a-z0-9.-]{1,63}; kInvalidArgument otherwise. If it is empty, a name made of the
/// service, the first label of the host name and the process id: unique without any coordination.
base::Result<std::string> node_name(std::string_view name, std::string_view service);

/// Ok if it is empty or [A-Za-z0-9._-]{1,63}; kInvalidArgument otherwise.
base::Status check_zone(std::string_view zone);

}  // namespace conclave::app
