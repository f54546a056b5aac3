#include "wanted_book.hpp"

#include <algorithm>
#include <utility>

#include "scheduler_core.hpp"

namespace conclave::scheduler {

namespace {

std::vector<const wire::ModelVersion*> versions_of(const wire::Deployment& deployment) {
  std::vector<const wire::ModelVersion*> versions;
  for (const wire::DeploymentSplit& split : deployment.splits) {
    if (split.model.version != 0 && split.weight > 0) versions.push_back(&split.model);
  }
  if (deployment.shadow.version != 0 && deployment.shadow_percent > 0) {
    versions.push_back(&deployment.shadow);
  }
  return versions;
}

// A rule for all of a model is one pin; ranges within become one for each expert.
void add_pins(const wire::DeploymentPin& rule, const wire::ModelRecord& record,
              std::vector<placement::Pin>& pins) {
  const auto range = [](std::uint32_t first, std::uint32_t last, std::uint32_t count) {
    std::vector<std::uint32_t> numbers;
    if (first == 0 && last >= count - 1) return std::vector<std::uint32_t>{placement::Pin::kAll};
    for (std::uint32_t i = first; i < count && i <= last; ++i) numbers.push_back(i);
    return numbers;
  };
  for (const std::uint32_t layer : range(rule.first_layer, rule.last_layer, record.layers)) {
    for (const std::uint32_t expert : range(rule.first_expert, rule.last_expert, record.experts)) {
      pins.push_back({.layer = layer,
                      .expert = expert,
                      .kind = placement::Pin::Kind::kOnly,
                      .group = rule.worker_group,
                      .workers = {}});
    }
  }
}

}  // namespace

void WantedBook::learn(wire::DeploymentList list) {
  if (!list.unchanged) list_ = std::move(list);
}

std::vector<std::string> WantedBook::all() const {
  std::vector<std::string> references;
  if (!model_.empty()) references.push_back(model_);
  for (const wire::Deployment& deployment : list_.deployments) {
    for (const wire::ModelVersion* version : versions_of(deployment)) {
      std::string reference = version->name + ":" + std::to_string(version->version);
      if (std::ranges::find(references, reference) == references.end()) {
        references.push_back(std::move(reference));
      }
    }
  }
  return references;
}

std::vector<std::string> WantedBook::references() const {
  std::vector<std::string> references = all();
  references.resize(std::min(references.size(), kServedVersionsMax));
  return references;
}

std::string WantedBook::left_out() const {
  const std::vector<std::string> references = all();
  if (references.size() <= kServedVersionsMax) return {};
  return references[kServedVersionsMax] + " is not served: at most " +
         std::to_string(kServedVersionsMax) + " versions are at once";
}

void WantedBook::rule(WantedModel& wanted) const {
  for (const wire::Deployment& deployment : list_.deployments) {
    const auto versions = versions_of(deployment);
    const bool names_it = std::ranges::any_of(versions, [&](const wire::ModelVersion* version) {
      return wire::is_same_bytes(*version, wanted.record.model);
    });
    if (!names_it) continue;
    wanted.replicas = std::max(wanted.replicas, deployment.replica_floor);
    if (!wanted.policy) wanted.policy = deployment.policy;
    for (const wire::DeploymentPin& pin : deployment.pins)
      add_pins(pin, wanted.record, wanted.pins);
  }
}

}  // namespace conclave::scheduler
