#include "stream_spans.hpp"

#include <utility>

namespace conclave::router {

void StreamSpans::opened(StreamKey stream, const wire::TraceContext& parent, std::size_t choices,
                         std::size_t prompt_tokens) {
  if (parent.empty()) return;
  Stream opened{.parent = telemetry::span_context(parent)};
  opened.own = tracer_.child(opened.parent);
  opened.begin = now_();
  opened.choices = static_cast<std::int64_t>(choices);
  opened.prompt_tokens = static_cast<std::int64_t>(prompt_tokens);
  streams_.insert_or_assign(stream, std::move(opened));
}

void StreamSpans::token(StreamKey stream) {
  if (streams_.empty()) return;
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  ++found->second.tokens;
  if (!found->second.first_token) found->second.first_token = now_();
}

void StreamSpans::closed(StreamKey stream, const std::string& error) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  record(found->second, error);
  streams_.erase(found);
}

void StreamSpans::all_closed(const std::string& error) {
  for (const auto& [key, stream] : streams_) record(stream, error);
  streams_.clear();
}

void StreamSpans::record(const Stream& stream, const std::string& error) const {
  if (stream.own.empty()) return;
  telemetry::Span span{.context = stream.own,
                       .parent_id = stream.parent.span_id,
                       .name = "generate",
                       .kind = telemetry::SpanKind::kServer,
                       .begin = stream.begin,
                       .end = now_(),
                       .attributes = {{"conclave.choices", stream.choices},
                                      {"conclave.prompt_tokens", stream.prompt_tokens},
                                      {"conclave.generated_tokens", stream.tokens}},
                       .error = error};
  if (stream.first_token) {
    span.attributes.emplace_back(
        "conclave.first_token_seconds",
        std::chrono::duration<double>(*stream.first_token - stream.begin).count());
  }
  tracer_.record(std::move(span));
}

wire::TraceContext StreamSpans::begin_step() {
  step_.reset();
  if (streams_.empty()) return {};
  if (!tracer_.enabled())
    return telemetry::trace_context<wire::TraceContext>(streams_.begin()->second.parent);
  for (auto& [key, stream] : streams_) {
    if (stream.own.empty() || stream.steps >= tracer_.steps_max()) continue;
    step_ = Step{tracer_.child(stream.own), stream.own, now_(), stream.steps == 0};
    ++stream.steps;
    return telemetry::trace_context<wire::TraceContext>(step_->own);
  }
  return {};
}

void StreamSpans::end_step() {
  if (!step_) return;
  tracer_.record({.context = step_->own,
                  .parent_id = step_->parent.span_id,
                  .name = "step",
                  .begin = step_->begin,
                  .end = now_(),
                  .attributes = {{"conclave.first_step", step_->is_first}},
                  .error = {}});
  step_.reset();
}

}  // namespace conclave::router
