// The actors that this node publishes, and for whom.
#pragma once

#include <caf/actor.hpp>
#include <caf/resumable.hpp>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "conclave/fabric/node.hpp"
#include "context_internal.hpp"

namespace conclave::fabric {

struct Export {
  caf::actor actor;
  Run run = Run::kScheduled;
  std::uint32_t roles = 0;  // 1 << role; 0: all
  MessageTypes types = kAllMessageTypes;

  [[nodiscard]] bool admits(wire::NodeRole role) const {
    return roles == 0 || (roles >> static_cast<unsigned>(role) & 1u) != 0;
  }
  [[nodiscard]] bool takes(std::uint16_t type) const {
    return type < wire::kMessageTypes && (types >> type & 1u) != 0;
  }
};

/// Any thread: what is published is there for the next request, whoever asks.
class Exports {
 public:
  void set(std::string name, Export entry);
  [[nodiscard]] std::optional<Export> find(std::string_view name) const;
  /// The same for a peer's message of this type. kNotFound: there is none for it; kUnimplemented:
  /// it does not take such messages. Both are counted as refused.
  base::Result<Export> find_for(const NodeIdentity& peer, std::string_view name, std::uint16_t type,
                                Context::Internal& context) const;
  /// Releases all, and what is set later at once.
  void close();

  /// The actors that run on the lane's thread: those that CAF schedules, not those with a thread of
  /// their own.
  [[nodiscard]] std::unordered_set<const caf::resumable*> inline_actors() const;

 private:
  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, Export, std::less<>> entries_;
  bool closed_ = false;
};

}  // namespace conclave::fabric
