// The paths of the HTTP API: what can be answered at once is, requests for tokens are parsed,
// checked and handed over.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "admission.hpp"
#include "backend.hpp"
#include "conclave/http/exchange.hpp"
#include "gateway_metrics.hpp"
#include "gateway_status.hpp"

namespace conclave::gateway {

/// What is borrowed must outlive the front. Functions are called from any thread.
struct FrontParts {
  Backend& backend;
  Admission& admission;
  GatewayMetrics& metrics;
  const GatewayStatus& status;
  RandomNumbers random;
  std::function<std::chrono::steady_clock::time_point()> now;
  std::function<std::string()> expose_metrics;
  std::string version;
  bool require_key = false;  // for chats and completions
};

/// Any thread.
class ApiFront {
 public:
  explicit ApiFront(FrontParts parts) : parts_(std::move(parts)) {}

  /// An http::Handler. Parsing the largest body takes some ten milliseconds.
  void handle(std::shared_ptr<http::Exchange> exchange);

  /// From now on nothing new is taken; /ready says so.
  void drain() { draining_ = true; }

  /// Ok, or why requests are refused now.
  [[nodiscard]] base::Status ready() const;

 private:
  void dispatch(const std::shared_ptr<http::Exchange>& exchange, ApiCall call);
  void get(Route route, const http::Request& request, ApiCall& call) const;
  void get_model(std::string_view path, ApiCall& call) const;
  void get_ready(ApiCall& call) const;
  void post(const std::shared_ptr<http::Exchange>& exchange, ApiCall call);
  void generate(const std::shared_ptr<http::Exchange>& exchange, ApiCall call);
  void tokenize(const http::Request& request, ApiCall call);
  void detokenize(const http::Request& request, ApiCall call);
  void administer(const http::Request& request, ApiCall call);
  /// The sum of the key that it shows; none: it shows none.
  [[nodiscard]] static std::optional<wire::Sha256> shown_key(const http::Request& request);
  std::optional<Admission::Ticket> admit(ApiCall& call, std::size_t streams);
  [[nodiscard]] ApiError too_many() const;
  [[nodiscard]] std::string random_id() const;

  const FrontParts parts_;
  std::atomic<std::uint64_t> next_request_{1};
  std::atomic<bool> draining_{false};
};

}  // namespace conclave::gateway
