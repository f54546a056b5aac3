// What a service is: a library class that one process can run alone (run.hpp) or beside others.
#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/telemetry/trace.hpp"

namespace conclave::app {

/// What a process lends to its services. Owned by the process; outlives them. Every member may be
/// used from any thread.
struct ServiceContext {
  telemetry::Logger log;        // named after the service, with the node bound
  telemetry::Metrics& metrics;  // of the process: services in one process share it
  std::string node_name;        // [a-z0-9.-]{1,63}, unique in the fleet
  std::string version;          // of the program
  std::string admin_address;    // host:port of the process's health endpoint
  std::function<std::chrono::steady_clock::time_point()> now;         // deadlines, intervals
  std::function<std::chrono::system_clock::time_point()> wall_clock;  // dates that people read
  /// Ends the process in order (drain, stop, exit code 1): for a failure after start() that the
  /// service cannot survive. Returns at once; the first error wins.
  std::function<void(base::Error)> fail;
  /// True once the process was told to stop: a long create() or start() looks between its steps
  /// and gives up with kCancelled.
  std::function<bool()> is_stopping;
  telemetry::Tracer tracer;  // of the service's spans
};

/// The calls of a service's life, in order and all on one thread. Only ready() comes from any
/// thread, at any time of the object's life.
class AnyService {
 public:
  virtual ~AnyService() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// Opens sockets and starts threads; returns when requests would be taken.
  virtual base::Status start() = 0;
  /// Ok, or why it takes no work now; cheap, asked every second.
  [[nodiscard]] virtual base::Status ready() const = 0;
  /// Takes no new work and finishes what it has; returns when done, at `deadline` at the latest.
  virtual void drain(std::chrono::steady_clock::time_point deadline) = 0;
  /// Ends everything that start() began, whatever drain() left. Also called after a failed start().
  virtual void stop() = 0;
};

/// What a service class declares; see README.md for a whole one.
///
///   class RouterService {
///    public:
///     static constexpr std::string_view kName = "router";
///     static constexpr std::string_view kDescription = "Runs the backbone and dispatches pairs";
///     struct Settings {
///       RouterSettings router;
///       fabric::Settings fabric;
///       template <class V> void sections(V&& v) { v("router", router); v("fabric", fabric); }
///     };
///     static base::Result<std::unique_ptr<RouterService>> create(const Settings&,
///     ServiceContext&); base::Status start(); base::Status ready() const; void
///     drain(std::chrono::steady_clock::time_point deadline); void stop();
///   };
template <class S>
concept Service = requires(S& service, const S& constant, const typename S::Settings& settings,
                           ServiceContext& context,
                           std::chrono::steady_clock::time_point deadline) {
  { S::kName } -> std::convertible_to<std::string_view>;
  { S::kDescription } -> std::convertible_to<std::string_view>;
  { S::create(settings, context) } -> std::same_as<base::Result<std::unique_ptr<S>>>;
  { service.start() } -> std::same_as<base::Status>;
  { constant.ready() } -> std::same_as<base::Status>;
  service.drain(deadline);
  service.stop();
};

/// An S behind the interface that processes handle.
template <Service S>
std::unique_ptr<AnyService> as_any(std::unique_ptr<S> service) {
  class Adapter final : public AnyService {
   public:
    explicit Adapter(std::unique_ptr<S> adapted) : service_(std::move(adapted)) {}
    [[nodiscard]] std::string_view name() const override { return S::kName; }
    base::Status start() override { return service_->start(); }
    [[nodiscard]] base::Status ready() const override { return service_->ready(); }
    void drain(std::chrono::steady_clock::time_point deadline) override {
      service_->drain(deadline);
    }
    void stop() override { service_->stop(); }

   private:
    std::unique_ptr<S> service_;
  };
  return std::make_unique<Adapter>(std::move(service));
}

/// Creates an S and puts it behind the interface.
template <Service S>
base::Result<std::unique_ptr<AnyService>> make_service(const typename S::Settings& settings,
                                                       ServiceContext& context) {
  CONCLAVE_TRY(auto service, S::create(settings, context));
  return as_any(std::move(service));
}

}  // namespace conclave::app
