// What a process lends to a service, with what the service says of itself for a test to see.
#pragma once

#include <optional>
#include <string>

#include "conclave/app/service.hpp"
#include "conclave/testkit/events.hpp"

namespace conclave::testkit {

/// One a service under test; outlives it.
class ServiceHost {
 public:
  explicit ServiceHost(std::string node_name);
  ServiceHost(const ServiceHost&) = delete;
  ServiceHost& operator=(const ServiceHost&) = delete;

  app::ServiceContext& context() { return context_; }
  telemetry::Metrics& metrics() { return metrics_; }

  /// The first line of this event, now or later.
  std::optional<std::string> wait_log(const std::string& event);
  /// Errors by which the service ended the process.
  Events<base::Error>& failures() { return failures_; }

 private:
  telemetry::Metrics metrics_;
  Events<std::string> lines_;
  Events<base::Error> failures_;
  app::ServiceContext context_;
};

}  // namespace conclave::testkit
