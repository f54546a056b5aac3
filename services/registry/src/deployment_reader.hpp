// What is served under which public name, as schedulers and gateways ask for it: with what the
// references mean now, and from the last answer while the database is away.
#pragma once

#include <functional>
#include <optional>

#include "conclave/base/result.hpp"
#include "conclave/catalog/catalog.hpp"
#include "conclave/wire/registry.hpp"

namespace conclave::registry {

/// One thread; calls wait for the database. The catalogue must outlive it. Keeps one list.
class DeploymentReader {
 public:
  /// `away` is called when an answer is not the database's, with its error.
  DeploymentReader(catalog::Catalog& catalog, std::function<void(const base::Error&)> away)
      : catalog_(catalog), away_(std::move(away)) {}

  /// Errors of the catalogue's; kUnavailable only if it never answered.
  base::Result<wire::DeploymentList> deployments(const wire::DeploymentsRequest& question);

 private:
  base::Result<wire::DeploymentList> read();
  /// What a reference means; version 0: nothing that can serve.
  base::Result<wire::ModelVersion> meaning(const std::string& reference);

  catalog::Catalog& catalog_;
  std::function<void(const base::Error&)> away_;
  std::optional<wire::DeploymentList> last_;
};

}  // namespace conclave::registry
