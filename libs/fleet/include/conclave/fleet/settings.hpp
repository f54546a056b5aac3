// The settings that every service shares: how its links are protected, and where the scheduler is.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/node.hpp"

namespace conclave::fleet {

/// Section `fabric`.
struct FabricSettings {
  std::string keys;
  fabric::NodeSettings links;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("keys", keys,
      "Directory of the CURVE keys (`conclave keys fabric`); without it only inproc addresses "
      "work");
    links.visit(v);
  }
};

/// Section `fleet`, for nodes that report to the scheduler.
struct FleetSettings {
  std::vector<std::string> scheduler{"tcp://127.0.0.1:7600"};
  std::uint32_t report_ms = 1000;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("scheduler", scheduler, "Addresses of the schedulers, of which one leads");
    v("report-ms", report_ms, 10u, 60'000u, "How often the node reports to the scheduler");
  }
};

}  // namespace conclave::fleet
