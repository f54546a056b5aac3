// Deadlines as calls carry them: by the wall clock, since hosts share no other; and as both ends
// use them: by the steady clock, which nobody sets.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "conclave/fabric/call_client.hpp"

namespace conclave::fabric {

/// Any thread, if the clock is.
class WireTime {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// Without a clock there are no deadlines.
  explicit WireTime(WallClock wall_clock) : wall_clock_(std::move(wall_clock)) {}

  /// Nanoseconds since 1970; 0: none.
  [[nodiscard]] std::int64_t to_wire(Time deadline) const;
  /// max(): none.
  [[nodiscard]] Time from_wire(std::int64_t deadline_unix_ns) const;

 private:
  WallClock wall_clock_;
};

}  // namespace conclave::fabric
