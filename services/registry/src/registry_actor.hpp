// The catalogue as other services reach it. The catalogue's calls take well below a millisecond, so
// they run in the actor; reading files is the registrar's part.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>

#include "conclave/catalog/catalog.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "registrar.hpp"

namespace conclave::registry {

/// A file has been read, or could not be.
struct Scanned {
  std::uint64_t number = 0;
  base::Result<catalog::ModelScan> scan;
};
using ScannedMessage = std::shared_ptr<Scanned>;

}  // namespace conclave::registry

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::registry::ScannedMessage)

namespace conclave::registry {

using RegistryActor = fabric::CatalogActor::extend<caf::reacts_to<ScannedMessage>>;

/// Counts what was asked, by outcome.
class RegistryMetrics {
 public:
  explicit RegistryMetrics(telemetry::Metrics& metrics) : metrics_(metrics) {}
  void answered(const char* request, const base::Status& outcome);

 private:
  telemetry::Metrics& metrics_;
};

struct RegistryParts {
  catalog::Catalog& catalog;
  Registrar& registrar;
  RegistryMetrics metrics;
  telemetry::Logger log;
  std::function<std::chrono::system_clock::time_point()> wall_clock;
};

class RegistryState {
 public:
  static constexpr const char* kName = "conclave.registry";

  RegistryState(RegistryActor::pointer self, RegistryParts parts)
      : self_(self), parts_(std::move(parts)) {}

  RegistryActor::behavior_type make_behavior();

 private:
  struct Pending {
    wire::RegisterModel request;
    caf::typed_response_promise<wire::ModelRecord> promise;
  };

  caf::result<wire::ModelRecord> on_register(const wire::RegisterModel& request);
  void on_scanned(Scanned& scanned);
  /// Counts the outcome and gives it CAF's form.
  template <class T>
  caf::result<T> answer(const char* request, base::Result<T> outcome);

  RegistryActor::pointer self_;
  RegistryParts parts_;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, Pending> pending_;
};

}  // namespace conclave::registry
