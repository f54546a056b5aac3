// One version as the scheduler serves it: what is to be done about it, and how it comes true.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conclave/placement/planner.hpp"
#include "conclave/wire/placement.hpp"
#include "conclave/wire/registry.hpp"
#include "load_book.hpp"
#include "rollout.hpp"

namespace conclave::scheduler {

/// What the registry says of a version that is to be served, and the deployments that name it.
struct WantedModel {
  wire::ModelRecord record;
  std::shared_ptr<const wire::ModelDigests> digests;  // never null
  std::uint32_t replicas = 0;                         // the floor; 0: the scheduler's setting
  std::optional<wire::DegradedPolicy> policy;         // nothing: the scheduler's setting
  std::vector<placement::Pin> pins;

  friend bool operator==(const WantedModel&, const WantedModel&) = default;
};

/// One thread.
struct ServedVersion {
  ServedVersion(ServedModel model, const RolloutOptions& options, std::chrono::milliseconds window,
                Time now)
      : rollout(std::move(model), options),
        loads(rollout.model().shape.layers, rollout.model().shape.experts, window, now) {}

  [[nodiscard]] const wire::ModelVersion& version() const { return rollout.model().version; }
  [[nodiscard]] bool is_known() const { return rollout.model().is_known(); }
  /// "name:version", for people.
  [[nodiscard]] std::string name() const {
    return version().name + ":" + std::to_string(version().version);
  }

  Rollout rollout;
  LoadBook loads;
  std::vector<std::string> aliases;
  std::uint32_t replicas = 0;         // 0: the scheduler's setting
  std::vector<placement::Pin> rules;  // of deployments
  std::map<std::pair<std::uint32_t, std::uint32_t>, placement::Pin> pins;  // of people
  bool wanted = false;
  std::optional<Time> leaving;  // since when routers finish what they have of it
  bool plan_is_due = true;
  bool may_rebalance = true;  // false once a plan that does got stuck, until the next change
  std::string no_fit;         // why the plan gives some experts no place
  bool was_complete = false;
};

/// What a version may take of a worker, in bytes and in slots (0: as memory allows).
struct Share {
  std::uint64_t memory_bytes = 0;
  std::uint32_t slots = 0;
};

/// Of a worker's memory and slots: every version gets a part in proportion to what one copy of all
/// of its experts takes, so that if there is room for one copy of each, each has it, and what is
/// left goes the same way. A version whose size is not known counts as the mean of the others.
Share share_of(const Rollout::Limits& worker, const ServedModel& model,
               const std::vector<const ServedModel*>& all);

/// Whether each of these versions has room for all of its experts within its shares.
bool fit_together(const std::vector<Rollout::Limits>& workers,
                  const std::vector<const ServedModel*>& all);

}  // namespace conclave::scheduler
