// Which versions are to be served: what `scheduler.model` means and what deployments name, with
// what deployments say of them. Pure: the registry's answers come in, questions and rules come out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conclave/wire/registry.hpp"
#include "served_version.hpp"

namespace conclave::scheduler {

/// One thread. Bounded by what one list of deployments holds.
class WantedBook {
 public:
  /// `model`: the setting; empty: only deployments say what is served.
  explicit WantedBook(std::string model) : model_(std::move(model)) {}

  /// Of the list that is known; 0: none.
  [[nodiscard]] std::uint64_t revision() const { return list_.revision; }
  void learn(wire::DeploymentList list);

  /// What the registry is to be asked for, each once, at most kServedVersionsMax; first the
  /// setting.
  [[nodiscard]] std::vector<std::string> references() const;
  /// Why some versions are left out, for people; empty: none is.
  [[nodiscard]] std::string left_out() const;

  /// What deployments that name the version say of it: the greatest floor, the first one's policy
  /// (by name), all pinning rules.
  void rule(WantedModel& wanted) const;

 private:
  [[nodiscard]] std::vector<std::string> all() const;

  const std::string model_;
  wire::DeploymentList list_;
};

}  // namespace conclave::scheduler
