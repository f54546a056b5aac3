// The HTTP endpoint by which an orchestrator and Prometheus watch a service process: GET /health,
// /ready, /metrics and /version, on its own port. No request changes anything.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/telemetry/metrics.hpp"

namespace conclave::app {

struct AdminSettings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 9464;  // where OpenTelemetry's Prometheus exporters listen

  template <class Visitor>
  void visit(Visitor&& v) {
    v("host", host, "Address of the health and metrics endpoint (0.0.0.0: every interface)");
    v("port", port, 0, 65535, "Its port (0: a free one, named in the log)");
  }
};

/// What the endpoint tells. The functions are called on its threads, at the same time.
struct AdminSources {
  std::function<base::Status()> ready;
  const telemetry::Metrics& metrics;  // must outlive the endpoint
  std::string service;
  std::string node;
  std::string version;
  std::function<std::chrono::system_clock::time_point()> wall_clock;  // for the Date field
};

/// Serves from start() to destruction. /health is 200 as long as the process answers at all;
/// /ready is 200 or 503 with {"ready":false,"reason":".."}.
class Admin {
 public:
  /// kUnavailable if the port is taken, kInvalidArgument for an address that is none.
  static base::Result<Admin> start(const AdminSettings& settings, AdminSources sources);
  ~Admin();
  Admin(Admin&&) noexcept;
  Admin& operator=(Admin&&) noexcept;

  /// The port it listens on, also if settings said 0.
  [[nodiscard]] std::uint16_t port() const;

 private:
  struct Impl;
  explicit Admin(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::app
