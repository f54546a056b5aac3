// Services of one process as one: started in order, ready together, stopped in reverse.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

#include "conclave/app/service.hpp"

namespace conclave::app {

/// One thread runs it; only ready() may come from any thread (the admin endpoint asks it).
class ServiceStack {
 public:
  ServiceStack() = default;
  /// Stops what is started.
  ~ServiceStack();
  ServiceStack(const ServiceStack&) = delete;
  ServiceStack& operator=(const ServiceStack&) = delete;

  /// Before start(). A service may use those added before it.
  void add(std::unique_ptr<AnyService> service);

  /// Starts each in the order added. If one fails, it and those before it are stopped, in reverse,
  /// and its error comes back with its name.
  base::Status start();

  /// Ok if start() is done, drain() has not begun and every service is ready.
  [[nodiscard]] base::Status ready() const;

  /// From here on ready() says no. Drains in reverse order, so that whoever brings work goes first;
  /// the deadline is common to all.
  void drain(std::chrono::steady_clock::time_point deadline);

  /// In reverse order; again is harmless.
  void stop();

 private:
  enum class Phase : unsigned char { kCreated, kStarting, kRunning, kDraining, kStopped };

  [[nodiscard]] Phase phase() const { return phase_.load(); }
  void enter(Phase phase) { phase_.store(phase); }

  std::vector<std::unique_ptr<AnyService>> services_;  // fixed while the phase is kRunning
  std::size_t started_ = 0;                            // services for which stop() is owed
  std::atomic<Phase> phase_ = Phase::kCreated;
};

}  // namespace conclave::app
