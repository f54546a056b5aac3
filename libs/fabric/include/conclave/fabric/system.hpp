// The configuration of CAF that Conclave's processes run with.
#pragma once

#include <caf/actor_system_config.hpp>

namespace conclave::fabric {

/// A scheduler with one shared queue: CAF's default lets idle workers sleep through new work and
/// keeps them polling, which costs a request two to four times its time; and an actor gives way
/// after kMessagesPerTurn, which by default it never does. Reads neither arguments nor files.
class SystemConfig : public caf::actor_system_config {
 public:
  /// Longest run of one actor's messages. 16 to 64 measured alike.
  static constexpr std::size_t kMessagesPerTurn = 32;

  /// `threads` 0: as many as cores. At least 2, so that one long handler does not stop the rest.
  explicit SystemConfig(unsigned threads = 0);
};

}  // namespace conclave::fabric
