// Spans as the JSON of an OTLP ExportTraceServiceRequest:
// https://github.com/open-telemetry/opentelemetry-proto, trace/v1/trace.proto, in its JSON mapping
// (identifiers in hex, 64-bit numbers as text). Knows no network.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "conclave/telemetry/trace.hpp"

namespace conclave::telemetry {

/// A span in the queue.
struct Recorded {
  Span span;
  std::shared_ptr<const std::string> service;
  std::uint64_t begin_unix_ns = 0;
  std::uint64_t end_unix_ns = 0;
};

/// Grouped by service.
std::string otlp_json(std::span<const Recorded> spans, const std::string& node,
                      const std::string& version);

}  // namespace conclave::telemetry
