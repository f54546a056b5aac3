// What the gateway counts and measures: the only place that knows metric names. Beside its own
// `conclave_gateway_*` it keeps the `vllm:*` series that existing dashboards and autoscalers query.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "conclave/quota/quota.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/inference.hpp"

namespace conclave::gateway {

enum class Route : std::uint8_t {
  kChat,
  kCompletions,
  kModels,
  kTokenize,
  kDetokenize,
  kHealth,
  kReady,
  kMetrics,
  kVersion,
  kAdmin,  // all paths of administration
  kOther,  // no such path
};
/// `/v1/chat/completions`; `other`.
const char* to_string(Route route);

/// The series of one model, with vLLM's names, label and buckets. Any thread.
class ModelMetrics {
 public:
  using Duration = std::chrono::steady_clock::duration;

  ModelMetrics(telemetry::Metrics& metrics, const std::string& model);

  void request_waits();
  void first_token(Duration since_arrival);
  /// A token of a choice came `gap` after the one before.
  void token_after(Duration gap);
  void choice_finished(wire::FinishReason reason);
  /// `answered`: all its choices have finished. `running`: first_token() was called for it.
  void request_ends(bool answered, bool running, std::uint64_t prompt_tokens,
                    std::uint64_t generated_tokens, Duration since_arrival);

 private:
  telemetry::Gauge& running_;
  telemetry::Gauge& waiting_;
  telemetry::Counter& prompt_tokens_;
  telemetry::Counter& generation_tokens_;
  telemetry::Counter& finished_stop_;
  telemetry::Counter& finished_length_;
  telemetry::Counter& finished_abort_;
  telemetry::Histogram& time_to_first_token_;
  telemetry::Histogram& inter_token_latency_;
  telemetry::Histogram& e2e_latency_;
  telemetry::Histogram& request_prompt_tokens_;
  telemetry::Histogram& request_generation_tokens_;
};

/// Handles are cached; any thread but model(), which is the core's.
class GatewayMetrics {
 public:
  using Duration = std::chrono::steady_clock::duration;

  explicit GatewayMetrics(telemetry::Metrics& metrics);

  /// The same object for the same name. Only for models that are served, not for any that a client
  /// names: each is some dozen series.
  ModelMetrics& model(const std::string& name);

  void answered(Route route, unsigned status);
  /// From the request's arrival to its sending to a router.
  void dispatched(Duration in_gateway) { dispatch_.observe(seconds(in_gateway)); }
  /// From the arrival of a router's events to the last write of what they gave.
  void delivered(Duration in_gateway) { delivery_.observe(seconds(in_gateway)); }
  void retried() { retries_.add(); }
  /// A stream has its first token since it lost its router.
  void resumed(Duration without) {
    resumed_.add();
    resume_.observe(seconds(without));
  }
  /// A stream that lost its router ended without its answer.
  void given_up() { given_up_.add(); }
  /// A stream left a router that drains.
  void moved() { moved_.add(); }
  /// Streams that have lost their router and found no other yet.
  void streams_waiting(std::size_t count) { streams_waiting_.set(static_cast<double>(count)); }
  void prefix_chosen(std::uint64_t known_tokens) {
    prefix_tokens_.add(static_cast<double>(known_tokens));
  }
  void client_lost() { clients_lost_.add(); }
  void stale_events() { stale_events_.add(); }
  void shadow_sent() { shadows_sent_.add(); }
  void shadow_skipped() { shadows_skipped_.add(); }
  /// A request's answer has tokens that did without some experts.
  void degraded() { degraded_.add(); }
  /// A request failed for want of experts.
  void experts_missing() { experts_missing_.add(); }
  /// A tenant's quota let a request in, or did not, after so long.
  void quota_counted(quota::Refusal refusal, Duration waited);
  void routers_up(std::size_t count) { routers_up_.set(static_cast<double>(count)); }

 private:
  static double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
  }

  telemetry::Metrics& metrics_;
  telemetry::Histogram& dispatch_;
  telemetry::Histogram& delivery_;
  telemetry::Histogram& resume_;
  telemetry::Counter& retries_;
  telemetry::Counter& resumed_;
  telemetry::Counter& given_up_;
  telemetry::Counter& moved_;
  telemetry::Counter& prefix_tokens_;
  telemetry::Gauge& streams_waiting_;
  telemetry::Counter& clients_lost_;
  telemetry::Counter& stale_events_;
  telemetry::Counter& shadows_sent_;
  telemetry::Counter& shadows_skipped_;
  telemetry::Counter& degraded_;
  telemetry::Counter& experts_missing_;
  telemetry::Gauge& routers_up_;
  telemetry::Histogram& quota_wait_;
  std::array<telemetry::Counter*, quota::kRefusals> quota_refused_{};  // by Refusal; of none: null
  std::map<std::string, ModelMetrics> models_;
};

}  // namespace conclave::gateway
