#include "deployment_reader.hpp"

#include <utility>

namespace conclave::registry {

using base::ErrorCode;
using base::fail;
using base::Result;

Result<wire::ModelVersion> DeploymentReader::meaning(const std::string& reference) {
  if (reference.empty()) return wire::ModelVersion{};
  auto record = catalog_.resolve(reference);
  if (record) return std::move(record->model);
  if (record.error().code == ErrorCode::kUnavailable) return fail(record.error());
  return wire::ModelVersion{};
}

Result<wire::DeploymentList> DeploymentReader::read() {
  wire::DeploymentList list;
  // Before the rest: what changes meanwhile is asked for again.
  CONCLAVE_TRY(list.revision, catalog_.revision());
  if (last_ && !last_->stale && last_->revision == list.revision) return *last_;
  CONCLAVE_TRY(const auto deployments, catalog_.list_deployments());
  for (const catalog::Deployment& from : deployments) {
    wire::Deployment to;
    to.name = from.name;
    for (const catalog::Split& split : from.split) {
      CONCLAVE_TRY(wire::ModelVersion model, meaning(split.reference));
      to.splits.push_back({split.reference, std::move(model), split.weight});
    }
    to.sticky = static_cast<wire::Stickiness>(from.sticky);
    CONCLAVE_TRY(to.shadow, meaning(from.shadow));
    to.shadow_percent = from.shadow_percent;
    for (const catalog::PinRule& pin : from.pins) {
      to.pins.push_back(
          {pin.worker_group, pin.first_layer, pin.last_layer, pin.first_expert, pin.last_expert});
    }
    to.replica_floor = from.replica_floor;
    to.policy = static_cast<wire::DegradedPolicy>(from.policy);
    list.deployments.push_back(std::move(to));
  }
  return list;
}

Result<wire::DeploymentList> DeploymentReader::deployments(
    const wire::DeploymentsRequest& question) {
  Result<wire::DeploymentList> list = read();
  if (list) {
    last_ = *list;
  } else if (list.error().code == ErrorCode::kUnavailable && last_) {
    away_(list.error());
    list = *last_;
    list->stale = true;
  } else {
    return list;
  }
  if (question.revision == list->revision && question.revision != 0) {
    list->unchanged = true;
    list->deployments.clear();
  }
  return list;
}

}  // namespace conclave::registry
