// Which version answers a request: what the names mean that clients write in `model`, and how a
// deployment's traffic is shared out. Pure: what the scheduler and the registry say comes in.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/wire/placement.hpp"
#include "conclave/wire/registry.hpp"
#include "gateway_status.hpp"

namespace conclave::gateway {

/// What of a request says where it belongs.
struct Requester {
  std::string_view user;
  std::string_view session;
  std::uint64_t random = 0;  // for those that stay nowhere, and for the shadow
};

/// One thread. Bounded by kDeploymentsMax and by the versions of a fleet.
class ServingBook {
 public:
  /// Whether a router takes new requests for this version now.
  using Usable = std::function<bool(const wire::ModelVersion&)>;

  struct Choice {
    ServedModel shown;  // under the name that was asked for
    wire::ModelVersion version;
    wire::ModelVersion shadow;  // gets a copy whose answer nobody sees; version 0: none
  };

  /// What the scheduler says. An empty list is passed over: a scheduler that has just started knows
  /// no model, and what was served still is.
  void learn(const wire::Fleet& fleet, std::int64_t now_unix_s);
  /// What the registry says; a list that is `unchanged` is passed over.
  void learn(wire::DeploymentList list, std::int64_t now_unix_s);

  /// Of the deployments that are known; 0: none.
  [[nodiscard]] std::uint64_t revision() const { return list_.revision; }

  /// A deployment's name, a model's name (the version that stands first in the fleet),
  /// "name:version" or "name@alias" of what is served; empty: the fleet's first. A deployment's
  /// user or session stays with one part of the split; changing a weight moves only as many as it
  /// must. While what a part means is not usable yet, what it meant before answers, or else what is
  /// served under the model's name, or else another part. Nothing: nobody knows the name.
  [[nodiscard]] std::optional<Choice> choose(std::string_view name, const Requester& who,
                                             const Usable& usable);

  /// Nothing is served yet.
  [[nodiscard]] bool is_empty() const { return models_.empty(); }
  /// The names that clients are shown: deployments, and the fleet's first model.
  [[nodiscard]] std::vector<ServedModel> shown() const;
  /// What is served, but for versions that are leaving.
  [[nodiscard]] std::vector<wire::ModelVersion> versions() const;
  /// The fleet has nothing of this version any more.
  [[nodiscard]] bool is_gone(const std::string& name, std::uint32_t version) const;

 private:
  [[nodiscard]] ServedModel show(std::string_view name, const wire::ModelVersion& version) const;
  [[nodiscard]] const wire::ModelVersion* find(std::string_view reference,
                                               const Usable& usable) const;
  [[nodiscard]] std::optional<wire::ModelVersion> part(const wire::Deployment& deployment,
                                                       const wire::DeploymentSplit& split,
                                                       const Usable& usable);
  [[nodiscard]] std::optional<Choice> choose_part(const wire::Deployment& deployment,
                                                  const Requester& who, const Usable& usable);

  std::vector<wire::ServedModel> models_;
  wire::DeploymentList list_;
  std::map<std::string, std::int64_t, std::less<>> created_;  // when a name was first heard of
  // What (deployment, reference) meant when it last could answer.
  std::map<std::pair<std::string, std::string>, wire::ModelVersion> before_;
};

}  // namespace conclave::gateway
