// Questions to the registry. Rules: schemas/registry.capnp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conclave/wire/common.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::wire {

struct ModelRecord {
  ModelVersion model;
  std::uint64_t bytes = 0;
  std::string architecture;
  std::string block_types;  // "Q8_0, F32", most bytes first
  std::uint64_t parameters = 0;
  std::uint32_t context_length = 0;
  std::uint32_t layers = 0;        // with experts or without
  std::uint32_t dense_layers = 0;  // leading layers without routed experts
  std::uint32_t experts = 0;       // a layer
  std::uint32_t experts_used = 0;
  std::uint64_t expert_bytes = 0;  // of the largest expert
  std::uint64_t backbone_bytes = 0;
  std::vector<std::string> aliases;  // that point at this version
  std::int64_t created_unix_ms = 0;

  friend bool operator==(const ModelRecord&, const ModelRecord&) = default;
};

/// Answered by ModelRecord when the file has been read and its sums recorded. The same bytes give
/// the same version again.
struct RegisterModel {
  std::string name;  // empty: from the file
  std::string uri;
  std::vector<std::string> aliases;  // to point at it

  friend bool operator==(const RegisterModel&, const RegisterModel&) = default;
};

/// Answered by ModelRecord. "name", "name@alias" or "name:version"; a bare name means the alias
/// `production`, or else the newest version.
struct ResolveModel {
  std::string reference;

  friend bool operator==(const ResolveModel&, const ResolveModel&) = default;
};

/// Answered by ModelList, by name and falling version.
struct ListModels {
  std::string after;  // the last reference of the page before, "name:version"
  std::uint32_t limit = 100;

  friend bool operator==(const ListModels&, const ListModels&) = default;
};

struct ModelList {
  std::vector<ModelRecord> models;
  bool more = false;

  friend bool operator==(const ModelList&, const ModelList&) = default;
};

/// Answered by ModelRecord. Moves, or makes, the alias.
struct SetAlias {
  std::string name;
  std::string alias;
  std::uint32_t version = 0;

  friend bool operator==(const SetAlias&, const SetAlias&) = default;
};

/// Answered by ModelDigests.
struct DigestsRequest {
  std::string name;
  std::uint32_t version = 0;

  friend bool operator==(const DigestsRequest&, const DigestsRequest&) = default;
};

/// SHA-256 of the bytes of the backbone and of every expert: (layer, expert), all layers; zero for
/// layers without experts.
struct ModelDigests {
  ModelVersion model;
  std::uint32_t layers = 0;
  std::uint32_t experts = 0;
  Sha256 backbone{};
  std::vector<Sha256> expert;

  friend bool operator==(const ModelDigests&, const ModelDigests&) = default;
};

/// Answered by DeploymentList.
struct DeploymentsRequest {
  std::uint64_t revision = 0;  // of the list that the asker has; 0: none

  friend bool operator==(const DeploymentsRequest&, const DeploymentsRequest&) = default;
};

/// How a request stays with one version of a split: by the user, or the session, that it names.
enum class Stickiness : std::uint8_t { kNone = 0, kUser = 1, kSession = 2 };

struct DeploymentSplit {
  std::string reference;
  ModelVersion model;  // what that means now; version 0: nothing that can serve
  std::uint32_t weight = 0;

  friend bool operator==(const DeploymentSplit&, const DeploymentSplit&) = default;
};

/// Experts that only workers of one group may host. Bounds are inclusive.
struct DeploymentPin {
  std::string worker_group;
  std::uint32_t first_layer = 0;
  std::uint32_t last_layer = UINT32_MAX;
  std::uint32_t first_expert = 0;
  std::uint32_t last_expert = UINT32_MAX;

  friend bool operator==(const DeploymentPin&, const DeploymentPin&) = default;
};

/// What is served under one public name.
struct Deployment {
  std::string name;
  std::vector<DeploymentSplit> splits;
  Stickiness sticky = Stickiness::kNone;
  ModelVersion shadow;  // whose answers nobody sees; version 0: none
  std::uint32_t shadow_percent = 0;
  std::vector<DeploymentPin> pins;
  std::uint32_t replica_floor = 0;  // 0: the scheduler's setting
  DegradedPolicy policy = DegradedPolicy::kWait;

  friend bool operator==(const Deployment&, const Deployment&) = default;
};

struct DeploymentList {
  std::uint64_t revision = 0;  // of the catalog; rises with every change
  bool unchanged = false;      // it is what the asker has: no list follows
  std::vector<Deployment> deployments;
  bool stale = false;  // from a snapshot: the database is away

  friend bool operator==(const DeploymentList&, const DeploymentList&) = default;
};

/// registry -> linked gateways and schedulers, cast: what was read before may not be true any more.
struct CatalogChanged {
  std::uint64_t revision = 0;  // of the newest change

  friend bool operator==(const CatalogChanged&, const CatalogChanged&) = default;
};

}  // namespace conclave::wire
