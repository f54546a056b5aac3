#include "node_metrics.hpp"

namespace conclave::fabric {

using wire::FrameKind;

namespace {

const char* label(FrameKind kind) {
  switch (kind) {
    case FrameKind::kRequest:
      return "request";
    case FrameKind::kReply:
      return "reply";
    case FrameKind::kError:
      return "error";
    case FrameKind::kCast:
      return "cast";
    case FrameKind::kHello:
      return "hello";
    case FrameKind::kWelcome:
      return "welcome";
    case FrameKind::kHeartbeat:
      return "heartbeat";
    case FrameKind::kGoodbye:
      return "goodbye";
  }
  return "unknown";
}

}  // namespace

NodeMetrics::Direction::Direction(telemetry::Metrics& metrics, const char* name)
    : bytes(metrics.counter("conclave_fabric_bytes_total",
                            "Bytes of envelopes and bodies on control links",
                            {{"direction", name}})) {
  for (std::size_t i = 0; i < kKinds; ++i) {
    messages[i] =
        &metrics.counter("conclave_fabric_messages_total", "Messages on control links",
                         {{"direction", name}, {"kind", label(static_cast<FrameKind>(i + 1))}});
  }
}

void NodeMetrics::Direction::count(FrameKind kind, std::size_t bytes_count) {
  messages[static_cast<std::size_t>(kind) - 1]->add();
  bytes.add(static_cast<double>(bytes_count));
}

// Requests take from 50 us in one process to minutes for a model's registration.
NodeMetrics::NodeMetrics(telemetry::Metrics& metrics)
    : out_(metrics, "out"),
      in_(metrics, "in"),
      links_(metrics.gauge("conclave_fabric_links", "Control links that are up")),
      in_flight_(metrics.gauge("conclave_fabric_requests_in_flight",
                               "Requests over control links that wait for an answer")),
      seconds_(metrics.histogram("conclave_fabric_request_seconds",
                                 "From sending a request to its answer or failure",
                                 telemetry::exponential_buckets(50e-6, 4, 12))) {}

void NodeMetrics::request_ended(std::chrono::steady_clock::duration took) {
  in_flight_.add(-1);
  seconds_.observe(std::chrono::duration<double>(took).count());
}

}  // namespace conclave::fabric
