// Spans of a request's way through the processes, sent to a collector by OTLP over HTTP, as JSON:
// https://opentelemetry.io/docs/specs/otlp/ and W3C Trace Context. Off unless an endpoint is set.
// What is worth a span, and how contexts travel, is the services' business.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/telemetry/metrics.hpp"

namespace conclave::telemetry {

/// Which span of which trace; trace_id all zero: none.
struct SpanContext {
  std::array<std::uint8_t, 16> trace_id{};
  std::array<std::uint8_t, 8> span_id{};
  std::uint8_t flags = 0;  // W3C: bit 0 says that the trace is recorded

  [[nodiscard]] bool empty() const { return trace_id == std::array<std::uint8_t, 16>{}; }
  [[nodiscard]] bool sampled() const { return (flags & 1) != 0 && !empty(); }
  friend bool operator==(const SpanContext&, const SpanContext&) = default;
};

/// From and to the trace of a message, which has the same fields: nothing here knows messages.
template <class Trace>
SpanContext span_context(const Trace& trace) {
  return {trace.trace_id, trace.span_id, trace.flags};
}
template <class Trace>
Trace trace_context(const SpanContext& span) {
  Trace trace;
  trace.trace_id = span.trace_id;
  trace.span_id = span.span_id;
  trace.flags = span.flags;
  return trace;
}

/// Section `tracing`.
struct TraceSettings {
  std::string endpoint;
  // One request in a hundred shows where time goes and costs a collector little.
  double sample_ratio = 0.01;
  // A prompt and some tokens: all steps of a long answer look alike, with spans by layer and
  // worker.
  std::uint32_t steps_max = 4;
  // Some seconds of a busy process, about 2 MB; beyond it spans are dropped, never requests.
  std::uint32_t queue_max = 4096;
  std::uint32_t timeout_ms = 5000;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("endpoint", endpoint,
      "Where spans go, by OTLP over HTTP, as http://collector:4318 (default: nowhere)");
    v("sample-ratio", sample_ratio, 0.0, 1.0,
      "Share of the requests that are traced, of those whose client does not say itself");
    v("steps-max", steps_max, 0u, 1'000'000u,
      "Steps of a request whose calls to experts are traced one by one");
    v("queue-max", queue_max, 1u, 1'000'000u, "Spans that wait to be sent; more are dropped");
    v("timeout-ms", timeout_ms, 100u, 60'000u, "Longest wait for the collector");
  }
};

enum class SpanKind : std::uint8_t { kInternal = 1, kServer = 2, kClient = 3 };  // OTLP's

/// What took place between two moments.
struct Span {
  using Value = std::variant<std::string, std::int64_t, double, bool>;
  using TimePoint = std::chrono::steady_clock::time_point;

  SpanContext context;                      // of its own
  std::array<std::uint8_t, 8> parent_id{};  // all zero: the trace begins here
  std::string name;                         // one of a few, without ids
  SpanKind kind = SpanKind::kInternal;
  TimePoint begin;
  TimePoint end;
  std::vector<std::pair<std::string_view, Value>> attributes;  // keys are constants
  std::string error;                                           // empty: it went well
};

/// A cheap copy of a handle, as Logger is; a default one is off. Any thread. Nothing waits for the
/// collector: record() puts a span into a bounded queue that a thread of its own sends; spans
/// without room, and those that the collector does not take, are dropped and counted in
/// conclave_trace_spans_total. Sent once, not again: a trace with a gap is better than old ones.
class Tracer {
 public:
  struct Process {
    std::string node;
    std::string version;
    std::function<std::chrono::steady_clock::time_point()> now;
    std::function<std::chrono::system_clock::time_point()> wall_clock;
    std::uint64_t seed = 0;  // of identifiers: must differ from process to process
    /// Takes the place of HTTP (tests): false if a batch was not taken. One thread at a time.
    std::function<bool(const std::string& json)> send;
  };

  Tracer() = default;

  /// Off without an endpoint. The last copy that goes sends what waits, for timeout_ms at most.
  /// `metrics` must outlive all copies. kInvalidArgument: the endpoint is no http or https URL.
  static base::Result<Tracer> create(const TraceSettings& settings, Process process,
                                     Metrics& metrics);
  /// The same tracer for spans of another service of the process.
  [[nodiscard]] Tracer of(std::string_view service) const;

  [[nodiscard]] bool enabled() const { return impl_ != nullptr; }
  [[nodiscard]] std::uint32_t steps_max() const;

  /// The context of a span at the edge: below `parent` and recorded if that is; without a parent by
  /// the ratio. Empty: not to be recorded.
  [[nodiscard]] SpanContext enter(const SpanContext& parent) const {
    return enabled() ? enter_on(parent) : SpanContext{};
  }
  /// The context of a span below `parent`; empty if that is not recorded.
  [[nodiscard]] SpanContext child(const SpanContext& parent) const {
    return enabled() && parent.sampled() ? child_on(parent) : SpanContext{};
  }
  /// A span whose context is empty is passed over.
  void record(Span span) const {
    if (enabled() && span.context.sampled()) record_on(std::move(span));
  }

 private:
  class Impl;
  Tracer(std::shared_ptr<Impl> impl, std::shared_ptr<const std::string> service)
      : impl_(std::move(impl)), service_(std::move(service)) {}
  [[nodiscard]] SpanContext enter_on(const SpanContext& parent) const;
  [[nodiscard]] SpanContext child_on(const SpanContext& parent) const;
  void record_on(Span span) const;

  std::shared_ptr<Impl> impl_;
  std::shared_ptr<const std::string> service_;
};

}  // namespace conclave::telemetry
