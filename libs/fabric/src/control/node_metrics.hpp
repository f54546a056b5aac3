// The only place of the control plane that knows names of metrics.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/envelope.hpp"

namespace conclave::fabric {

/// Any thread; nodes of one process add up.
class NodeMetrics {
 public:
  explicit NodeMetrics(telemetry::Metrics& metrics);

  void sent(wire::FrameKind kind, std::size_t bytes) { out_.count(kind, bytes); }
  void received(wire::FrameKind kind, std::size_t bytes) { in_.count(kind, bytes); }
  void link_up() { links_.add(1); }
  void link_down() { links_.add(-1); }
  void request_began() { in_flight_.add(1); }
  void request_ended(std::chrono::steady_clock::duration took);

 private:
  static constexpr std::size_t kKinds = 8;

  struct Direction {
    Direction(telemetry::Metrics& metrics, const char* name);
    void count(wire::FrameKind kind, std::size_t bytes_count);
    std::array<telemetry::Counter*, kKinds> messages{};
    telemetry::Counter& bytes;
  };

  Direction out_;
  Direction in_;
  telemetry::Gauge& links_;
  telemetry::Gauge& in_flight_;
  telemetry::Histogram& seconds_;
};

}  // namespace conclave::fabric
