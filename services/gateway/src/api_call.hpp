// A client's request on its way through the gateway, and the way back: every answer passes here, so
// that each carries the request id and is counted once.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api_error.hpp"
#include "conclave/http/exchange.hpp"
#include "gateway_metrics.hpp"

namespace conclave::gateway {

/// One thread at a time. The metrics must outlive it. Dies unanswered: the client gets 500.
class ApiCall {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  ApiCall(std::shared_ptr<http::Exchange> exchange, Route route, std::string request_id,
          TimePoint arrived, GatewayMetrics& metrics)
      : exchange_(std::move(exchange)),
        metrics_(&metrics),
        request_id_(std::move(request_id)),
        arrived_(arrived),
        route_(route) {}
  ApiCall(ApiCall&&) = default;
  ApiCall& operator=(ApiCall&&) = default;

  [[nodiscard]] const std::string& request_id() const { return request_id_; }
  [[nodiscard]] TimePoint arrived() const { return arrived_; }
  [[nodiscard]] Route route() const { return route_; }

  /// The answer's head says how it is less than the model's own: kNextBest, kFail.
  void mark_degraded(std::string_view how) { degraded_ = how; }
  static constexpr std::string_view kNextBest = "next-best";  // experts took the place of others
  static constexpr std::string_view kFail = "fail";           // experts were missing

  /// The version that computes the answer, "name:version"; its head says so.
  void set_version(std::string version) { version_ = std::move(version); }

  /// What the answer's head says of the tenant's quota.
  void set_quota_headers(std::vector<http::Header> headers) { quota_ = std::move(headers); }

  /// 200 with this JSON.
  void respond(std::string json);
  void respond(http::Response response);
  void fail(const ApiError& error);

  /// 200 with server-sent events to come.
  void begin_stream();
  /// False: the client is gone or too slow, and nothing reaches it any more.
  [[nodiscard]] bool write(std::string events) { return exchange_->write(std::move(events)); }
  void end() { exchange_->end(); }

  /// The client left without an answer: counted as 499, as nginx does.
  void abandon();

 private:
  void count(unsigned status);
  void add_headers(http::Response& response) const;

  std::shared_ptr<http::Exchange> exchange_;
  GatewayMetrics* metrics_;
  std::string request_id_;
  TimePoint arrived_;
  Route route_;
  bool counted_ = false;
  std::string_view degraded_;
  std::string version_;
  std::vector<http::Header> quota_;
};

/// An error as an answer, without a request id: also for what the HTTP server says by itself.
http::Response error_response(const ApiError& error);

}  // namespace conclave::gateway
