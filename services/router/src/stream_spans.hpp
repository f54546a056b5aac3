// The spans of the streams that the engine runs: one from a stream's begin to its end, and below it
// one for each of its first steps, under which workers put their own. Knows neither sequences nor
// gateways.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "conclave/telemetry/trace.hpp"
#include "conclave/wire/common.hpp"
#include "engine_news.hpp"

namespace conclave::router {

/// One thread. Holds an entry for each open stream whose request has a trace. Without tracing here
/// the contexts still pass through, to workers that may trace.
class StreamSpans {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Now = std::function<TimePoint()>;

  explicit StreamSpans(telemetry::Tracer tracer, Now now)
      : tracer_(std::move(tracer)), now_(std::move(now)) {}

  void opened(StreamKey stream, const wire::TraceContext& parent, std::size_t choices,
              std::size_t prompt_tokens);
  void token(StreamKey stream);
  /// `error`: empty if it came to its end.
  void closed(StreamKey stream, const std::string& error);
  void all_closed(const std::string& error);

  /// What the calls of the next step carry: a step is for many requests and has one trace, that of
  /// the oldest stream with traced steps left (TraceSettings::steps_max).
  wire::TraceContext begin_step();
  void end_step();

 private:
  struct Stream {
    telemetry::SpanContext parent;
    telemetry::SpanContext own;  // empty: not recorded here
    TimePoint begin;
    std::optional<TimePoint> first_token;
    std::int64_t choices = 0;
    std::int64_t prompt_tokens = 0;
    std::int64_t tokens = 0;
    std::uint32_t steps = 0;  // that were traced
  };
  struct Step {
    telemetry::SpanContext own;
    telemetry::SpanContext parent;
    TimePoint begin;
    bool is_first = false;  // of the stream: the prompt's
  };

  void record(const Stream& stream, const std::string& error) const;

  telemetry::Tracer tracer_;
  Now now_;
  std::map<StreamKey, Stream> streams_;
  std::optional<Step> step_;
};

}  // namespace conclave::router
