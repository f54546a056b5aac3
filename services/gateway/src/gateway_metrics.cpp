#include "gateway_metrics.hpp"

#include <vector>

namespace conclave::gateway {

using telemetry::Labels;

namespace {

// A request's way through the gateway takes some tens of microseconds.
const std::vector<double> kOwnBuckets = {1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3,
                                         5e-3, 0.01, 0.02, 0.05, 0.1,  0.2,  0.5,  1.0};

// vLLM's.
const std::vector<double> kFirstTokenBuckets = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                                0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                                20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
const std::vector<double> kTokenBuckets = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                           0.3,  0.4,   0.5,  0.75,  1.0, 2.5,  5.0,
                                           7.5,  10.0,  20.0, 40.0,  80.0};
const std::vector<double> kRequestBuckets = {0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,
                                             5.0,  10.0, 15.0, 20.0, 30.0,  40.0,  50.0,
                                             60.0, 120., 240., 480., 960.0, 1920., 7680.0};
const std::vector<double> kCountBuckets = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};

double seconds_of(ModelMetrics::Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

telemetry::Counter& success(telemetry::Metrics& metrics, const std::string& model,
                            const char* reason) {
  return metrics.counter("vllm:request_success_total", "Choices that finished",
                         {{"model_name", model}, {"finished_reason", reason}});
}

// As the quota's own fields are called.
const char* name_of(quota::Refusal refusal) {
  switch (refusal) {
    case quota::Refusal::kNone:
      break;
    case quota::Refusal::kRequestsPerMinute:
      return "requests_per_minute";
    case quota::Refusal::kTokensPerMinute:
      return "tokens_per_minute";
    case quota::Refusal::kTokensPerDay:
      return "tokens_per_day";
    case quota::Refusal::kTokensPerMonth:
      return "tokens_per_month";
    case quota::Refusal::kConcurrentRequests:
      return "concurrent_requests";
  }
  return "none";
}

}  // namespace

const char* to_string(Route route) {
  switch (route) {
    case Route::kChat:
      return "/v1/chat/completions";
    case Route::kCompletions:
      return "/v1/completions";
    case Route::kModels:
      return "/v1/models";
    case Route::kTokenize:
      return "/tokenize";
    case Route::kDetokenize:
      return "/detokenize";
    case Route::kHealth:
      return "/health";
    case Route::kReady:
      return "/ready";
    case Route::kMetrics:
      return "/metrics";
    case Route::kVersion:
      return "/version";
    case Route::kAdmin:
      return "/admin/v1";
    case Route::kOther:
      return "other";
  }
  return "other";
}

ModelMetrics::ModelMetrics(telemetry::Metrics& metrics, const std::string& model)
    : running_(metrics.gauge("vllm:num_requests_running", "Requests that have had a token",
                             {{"model_name", model}})),
      waiting_(metrics.gauge("vllm:num_requests_waiting",
                             "Requests that wait for their first token", {{"model_name", model}})),
      prompt_tokens_(metrics.counter("vllm:prompt_tokens_total", "Tokens of prompts",
                                     {{"model_name", model}})),
      generation_tokens_(metrics.counter("vllm:generation_tokens_total", "Tokens generated",
                                         {{"model_name", model}})),
      finished_stop_(success(metrics, model, "stop")),
      finished_length_(success(metrics, model, "length")),
      finished_abort_(success(metrics, model, "abort")),
      time_to_first_token_(metrics.histogram("vllm:time_to_first_token_seconds",
                                             "From a request's arrival to its first token",
                                             kFirstTokenBuckets, {{"model_name", model}})),
      inter_token_latency_(metrics.histogram("vllm:inter_token_latency_seconds",
                                             "Between two tokens of a choice", kTokenBuckets,
                                             {{"model_name", model}})),
      e2e_latency_(metrics.histogram("vllm:e2e_request_latency_seconds",
                                     "From a request's arrival to its end", kRequestBuckets,
                                     {{"model_name", model}})),
      request_prompt_tokens_(metrics.histogram("vllm:request_prompt_tokens",
                                               "Tokens of a request's prompts", kCountBuckets,
                                               {{"model_name", model}})),
      request_generation_tokens_(metrics.histogram("vllm:request_generation_tokens",
                                                   "Tokens generated for a request", kCountBuckets,
                                                   {{"model_name", model}})) {}

void ModelMetrics::request_waits() { waiting_.add(1); }

void ModelMetrics::first_token(Duration since_arrival) {
  waiting_.add(-1);
  running_.add(1);
  time_to_first_token_.observe(seconds_of(since_arrival));
}

void ModelMetrics::token_after(Duration gap) { inter_token_latency_.observe(seconds_of(gap)); }

void ModelMetrics::choice_finished(wire::FinishReason reason) {
  if (reason == wire::FinishReason::kStop) {
    finished_stop_.add();
  } else if (reason == wire::FinishReason::kLength) {
    finished_length_.add();
  } else {
    finished_abort_.add();
  }
}

void ModelMetrics::request_ends(bool answered, bool running, std::uint64_t prompt_tokens,
                                std::uint64_t generated_tokens, Duration since_arrival) {
  (running ? running_ : waiting_).add(-1);
  prompt_tokens_.add(static_cast<double>(prompt_tokens));
  generation_tokens_.add(static_cast<double>(generated_tokens));
  if (!answered) return;
  e2e_latency_.observe(seconds_of(since_arrival));
  request_prompt_tokens_.observe(static_cast<double>(prompt_tokens));
  request_generation_tokens_.observe(static_cast<double>(generated_tokens));
}

GatewayMetrics::GatewayMetrics(telemetry::Metrics& metrics)
    : metrics_(metrics),
      dispatch_(metrics.histogram("conclave_gateway_dispatch_seconds",
                                  "From a request's arrival to its sending to a router",
                                  kOwnBuckets)),
      delivery_(metrics.histogram("conclave_gateway_delivery_seconds",
                                  "From the arrival of a router's events to their writing",
                                  kOwnBuckets)),
      resume_(metrics.histogram("conclave_gateway_resume_seconds",
                                "From the loss of a stream's router to its next token",
                                kFirstTokenBuckets)),
      retries_(metrics.counter("conclave_gateway_streams_retried_total",
                               "Streams that another router took after one had refused them")),
      resumed_(metrics.counter("conclave_gateway_streams_resumed_total",
                               "Streams that went on after they had lost their router")),
      given_up_(metrics.counter("conclave_gateway_streams_given_up_total",
                                "Streams that lost their router and did not go on")),
      moved_(metrics.counter("conclave_gateway_streams_moved_total",
                             "Streams taken from a router that drains")),
      prefix_tokens_(metrics.counter("conclave_gateway_prefix_tokens_total",
                                     "Tokens of prompts, about, that the chosen router knew")),
      streams_waiting_(
          metrics.gauge("conclave_gateway_streams_without_router",
                        "Streams that wait for a router, having lost one or between two")),
      clients_lost_(metrics.counter("conclave_gateway_clients_lost_total",
                                    "Requests whose client left, or was too slow, before the end")),
      stale_events_(metrics.counter("conclave_gateway_stale_events_total",
                                    "Events of streams that nobody waits for any more")),
      shadows_sent_(metrics.counter("conclave_gateway_shadows_total",
                                    "Copies of requests for a version that is being tried out",
                                    {{"outcome", "sent"}})),
      shadows_skipped_(metrics.counter("conclave_gateway_shadows_total",
                                       "Copies of requests for a version that is being tried out",
                                       {{"outcome", "skipped"}})),
      degraded_(metrics.counter("conclave_gateway_degraded_requests_total",
                                "Requests for which experts were missing, by what became of them",
                                {{"policy", "next-best"}})),
      experts_missing_(metrics.counter(
          "conclave_gateway_degraded_requests_total",
          "Requests for which experts were missing, by what became of them", {{"policy", "fail"}})),
      routers_up_(metrics.gauge("conclave_gateway_routers_up", "Routers that take requests")),
      quota_wait_(metrics.histogram("conclave_gateway_quota_seconds",
                                    "How long a request waited for its tenant's count",
                                    kOwnBuckets)) {
  for (int i = 1; i < quota::kRefusals; ++i) {
    const auto refusal = static_cast<quota::Refusal>(i);
    quota_refused_[static_cast<std::size_t>(i)] = &metrics.counter(
        "conclave_gateway_quota_refused_total", "Requests beyond their tenant's quota, by limit",
        {{"limit", name_of(refusal)}});
  }
}

void GatewayMetrics::quota_counted(quota::Refusal refusal, Duration waited) {
  quota_wait_.observe(seconds(waited));
  telemetry::Counter* const refused = quota_refused_[static_cast<std::size_t>(refusal)];
  if (refused != nullptr) refused->add();
}

ModelMetrics& GatewayMetrics::model(const std::string& name) {
  const auto known = models_.find(name);
  if (known != models_.end()) return known->second;
  return models_.try_emplace(name, metrics_, name).first->second;
}

void GatewayMetrics::answered(Route route, unsigned status) {
  metrics_
      .counter("conclave_gateway_http_requests_total", "Requests answered, by path and status",
               {{"path", to_string(route)}, {"status", std::to_string(status)}})
      .add();
}

}  // namespace conclave::gateway
