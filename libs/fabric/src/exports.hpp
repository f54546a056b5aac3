// The actors that this node publishes, and for whom.
#pragma once

#include <caf/actor.hpp>
#include <caf/resumable.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>

#include "conclave/fabric/node.hpp"

namespace conclave::fabric {

struct Export {
  caf::actor actor;
  Run run = Run::kScheduled;
  std::uint32_t roles = 0;  // 1 << role; 0: all
  MessageTypes types = kAllMessageTypes;

  [[nodiscard]] bool admits(wire::NodeRole role) const {
    return roles == 0 || (roles >> static_cast<unsigned>(role) & 1u) != 0;
  }
  [[nodiscard]] bool takes(std::uint16_t type) const { return (types >> type & 1u) != 0; }
};

/// One thread.
class Exports {
 public:
  void set(std::string name, Export entry) {
    entries_.insert_or_assign(std::move(name), std::move(entry));
  }
  [[nodiscard]] const Export* find(std::string_view name) const {
    const auto found = entries_.find(name);
    return found == entries_.end() ? nullptr : &found->second;
  }
  void clear() { entries_.clear(); }

  /// The actors that run on the lane's thread: those that CAF schedules, not those with a thread of
  /// their own.
  [[nodiscard]] std::unordered_set<const caf::resumable*> inline_actors() const;

 private:
  std::map<std::string, Export, std::less<>> entries_;
};

}  // namespace conclave::fabric
