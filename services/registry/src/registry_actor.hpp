// The catalogue as other services reach it: questions go to it at once, files to register through
// the registrar first. Who links may ask; operators may change what is there.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "catalog_reader.hpp"
#include "conclave/catalog/catalog.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "deployment_reader.hpp"
#include "registrar.hpp"

namespace conclave::registry {

/// A file, and the name that was asked for it: what makes two requests the same work.
using ScanKey = std::pair<std::string, std::string>;

/// A file has been read, or could not be.
struct Scanned {
  ScanKey key;
  base::Result<catalog::ModelScan> scan;
};
using ScannedMessage = std::shared_ptr<Scanned>;

/// Who is at the other end of a link.
struct LinkRole {
  fabric::LinkId link = 0;
  bool is_up = false;
  wire::NodeRole role = wire::NodeRole::kOperator;
};

}  // namespace conclave::registry

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::registry::ScannedMessage)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::registry::LinkRole)

namespace conclave::registry {

using RegistryActor =
    fabric::CatalogActor::extend<caf::reacts_to<ScannedMessage>, caf::reacts_to<LinkRole>>;

/// Counts what was asked, by outcome.
class RegistryMetrics {
 public:
  explicit RegistryMetrics(telemetry::Metrics& metrics);
  void answered(const char* request, const base::Status& outcome);
  void answered_stale();

 private:
  telemetry::Metrics& metrics_;
  telemetry::Counter& stale_;
};

struct RegistryParts {
  catalog::Catalog& catalog;
  Registrar& registrar;
  RegistryMetrics metrics;
  telemetry::Logger log;
  std::function<std::chrono::system_clock::time_point()> wall_clock;
};

/// To be spawned detached: the catalogue waits for its disk, and for other processes that write.
class RegistryState {
 public:
  /// Requests that wait for one file: a client asks again after its deadline, and no oftener.
  static constexpr std::size_t kWaitingForFileMax = 64;

  static constexpr const char* kName = "conclave.registry";

  RegistryState(RegistryActor::pointer self, RegistryParts parts)
      : self_(self),
        parts_(std::move(parts)),
        reader_(parts_.catalog, [this](const base::Error& error) { database_away(error); }),
        deployments_(parts_.catalog, [this](const base::Error& error) { database_away(error); }) {}

  RegistryActor::behavior_type make_behavior();

 private:
  struct Pending {
    wire::RegisterModel request;
    caf::typed_response_promise<wire::ModelRecord> promise;
  };

  caf::result<wire::ModelRecord> on_register(const wire::RegisterModel& request);
  caf::result<wire::ModelRecord> on_set_alias(const wire::SetAlias& request);
  void on_scanned(Scanned& scanned);
  void database_away(const base::Error& error);
  void on_link(const LinkRole& link);

  base::Status queue(const wire::RegisterModel& request, Pending pending);
  base::Result<wire::ModelRecord> add(const Scanned& scanned, const wire::RegisterModel& request);
  [[nodiscard]] catalog::Change change() const;
  /// kFailedPrecondition: what is being handled did not come from an operator, nor from here.
  [[nodiscard]] base::Status check_operator() const;
  /// Counts the outcome and gives it CAF's form.
  template <class T>
  caf::result<T> answer(const char* request, base::Result<T> outcome);

  RegistryActor::pointer self_;
  RegistryParts parts_;
  CatalogReader reader_;
  DeploymentReader deployments_;
  std::map<ScanKey, std::vector<Pending>> pending_;
  std::map<fabric::LinkId, wire::NodeRole> links_;
};

}  // namespace conclave::registry
