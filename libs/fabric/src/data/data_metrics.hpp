// What the data plane counts, at either end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "conclave/telemetry/metrics.hpp"
#include "data_protocol.hpp"

namespace conclave::fabric {

/// How a call ended.
enum class Outcome : std::uint8_t {
  kOk,
  kRefused,      // the worker answered with an error of its own
  kInvalid,      // the call, or its answer, was malformed
  kOverloaded,   // beyond the server's limits
  kDeadline,     // passed
  kUnavailable,  // the link went down, or the server drains
  kCancelled,    // by the router
  kLate,         // an answer that nobody waited for any more; its call is counted elsewhere
};
inline constexpr std::size_t kOutcomes = 8;

enum class End : std::uint8_t { kClient, kServer };

/// Any thread. Series: conclave_fabric_data_{calls_total,bytes_total,links}.
class DataMetrics {
 public:
  DataMetrics(telemetry::Metrics& metrics, End end);

  void ended(Road road, Outcome outcome) { at(calls_, road)[static_cast<size_t>(outcome)]->add(); }
  /// Payload bytes, on the way to a link or from it.
  void sent(Road road, std::size_t bytes) { at(out_, road)->add(static_cast<double>(bytes)); }
  void received(Road road, std::size_t bytes) { at(in_, road)->add(static_cast<double>(bytes)); }
  void link_up(Road road) { at(links_, road)->add(1); }
  void link_down(Road road) { at(links_, road)->add(-1); }

 private:
  template <class T>
  using PerRoad = std::array<T, kRoads>;
  template <class T>
  static T& at(PerRoad<T>& table, Road road) {
    return table[static_cast<std::size_t>(road)];
  }

  PerRoad<std::array<telemetry::Counter*, kOutcomes>> calls_{};
  PerRoad<telemetry::Counter*> out_{};
  PerRoad<telemetry::Counter*> in_{};
  PerRoad<telemetry::Gauge*> links_{};
};

}  // namespace conclave::fabric
