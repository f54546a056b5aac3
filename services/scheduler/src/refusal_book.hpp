// What nodes read and refused, since it is not what was registered, as events for the registry:
// each once for every life of a node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "conclave/wire/ledger.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::scheduler {

/// One thread. Bounded by nodes and wire::kRefusedMax of each; of more that a node refuses in one
/// life, and of more than kWaitingMax that wait for the registry, the rest is in its reports only.
class RefusalBook {
 public:
  static constexpr std::size_t kWaitingMax = 1024;

  /// A live node's newest report.
  void observe(const wire::NodeReport& report);
  void forget(const std::string& node) { nodes_.erase(node); }

  /// "expert.refused", or "backbone.refused", about "name:version".
  std::vector<wire::AuditEvent> take_events();
  /// The registry did not take it: it is told again.
  void put_back(wire::AuditEvent event);

 private:
  // Model, version, layer, index.
  using Key = std::tuple<std::string, std::uint32_t, std::uint32_t, std::uint32_t>;
  struct Life {
    std::uint64_t incarnation = 0;
    std::set<Key> told;
  };

  std::map<std::string, Life> nodes_;  // that refused something
  std::deque<wire::AuditEvent> waiting_;
};

}  // namespace conclave::scheduler
