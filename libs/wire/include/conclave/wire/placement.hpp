// The conversation of the scheduler with every node: what a node is and has, what it shall do, and
// which expert is where. Soft state: nodes report all of themselves again and again, so a scheduler
// that restarts knows the fleet after one round. Rules: schemas/placement.capnp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conclave/wire/common.hpp"

namespace conclave::wire {

/// A set of (layer, expert) of one model, one bit each.
class ExpertBits {
 public:
  ExpertBits() = default;
  ExpertBits(std::uint32_t layers, std::uint32_t experts)
      : layers_(layers), experts_(experts), words_((std::size_t{layers} * experts + 63) / 64) {}
  /// Words as words() gave them; they are cut or filled with zeros to fit.
  ExpertBits(std::uint32_t layers, std::uint32_t experts, std::span<const std::uint64_t> words);

  [[nodiscard]] std::uint32_t layers() const { return layers_; }
  [[nodiscard]] std::uint32_t experts() const { return experts_; }
  [[nodiscard]] std::span<const std::uint64_t> words() const { return words_; }
  /// False outside of the range.
  [[nodiscard]] bool test(std::uint32_t layer, std::uint32_t expert) const;
  /// Both must be in range (checked).
  void set(std::uint32_t layer, std::uint32_t expert, bool value = true);
  [[nodiscard]] std::size_t count() const;

  friend bool operator==(const ExpertBits&, const ExpertBits&) = default;

 private:
  std::uint32_t layers_ = 0;
  std::uint32_t experts_ = 0;
  std::vector<std::uint64_t> words_;
};

enum class NodeState : std::uint8_t {
  kStarting = 1,  // not usable yet; `reason` says why
  kReady = 2,
  kDraining = 3,  // finishes what it has, takes nothing new
};

/// What a node does now; counters rise from the start of its incarnation.
struct NodeLoad {
  std::uint64_t pairs_total = 0;       // worker: pairs computed
  std::uint64_t calls_total = 0;       // worker: calls answered
  std::uint64_t compute_us_total = 0;  // worker: time in the kernels
  std::uint32_t running = 0;           // router: sequences in the batch; gateway: requests
  std::uint32_t waiting = 0;           // router: sequences in the queue
  std::uint64_t kv_tokens_used = 0;
  std::uint64_t kv_tokens_max = 0;
  std::uint64_t tokens_total = 0;  // router: tokens generated

  friend bool operator==(const NodeLoad&, const NodeLoad&) = default;
};

/// A version that a node has open.
struct HostedModel {
  ModelVersion model;
  NodeState state = NodeState::kReady;  // a router serves it, or opens or leaves it
  std::string reason;                   // why it is not ready, for people
  ExpertBits ready;                     // worker: loaded and verified
  /// worker: pairs computed by each expert of `ready`, in the order of its bits, since
  /// it opened the model; empty: not said.
  std::vector<std::uint64_t> expert_pairs;

  friend bool operator==(const HostedModel&, const HostedModel&) = default;
};

/// What a worker, or a router, has read and does not use, since it is not what was registered.
struct RefusedExpert {
  /// As layer and index: not an expert, but the backbone.
  static constexpr std::uint32_t kBackbone = UINT32_MAX;

  ModelVersion model;
  std::uint32_t layer = 0;
  std::uint32_t index = 0;
  std::string reason;

  friend bool operator==(const RefusedExpert&, const RefusedExpert&) = default;
};

/// node -> scheduler, answered by ReportReply: once a second, and at once when something changed.
struct NodeReport {
  std::string node;
  NodeRole role = NodeRole::kOperator;
  std::uint64_t incarnation = 0;
  NodeState state = NodeState::kStarting;
  std::string reason;   // why it is not ready, for people
  std::string address;  // where its peers connect: data calls of a worker, inference of a router
  std::string admin_address;            // host:port of /metrics, /health, /ready
  std::string device;                   // worker: "cpu:0-1"
  std::uint64_t memory_bytes = 0;       // worker: what experts may take
  std::uint64_t memory_used_bytes = 0;  // worker: what they take
  std::uint32_t slots = 0;              // worker: most experts it hosts; 0: as memory allows
  std::uint64_t epoch_seen = 0;         // of the newest assignment, table or fleet it applied
  std::vector<HostedModel> models;      // what it has open, each version (from 1) once
  NodeLoad load;
  std::vector<RefusedExpert> refused;  // what it was to load and its checks refuse
  std::string zone;                    // where it stands: what fails together
  std::vector<std::string> lost;  // router: workers of its tables that it cannot reach now, by node
  std::uint64_t term = 0;         // of the scheduler that it follows, or followed last; 0: none

  /// The one of the same bytes; null: it has none.
  [[nodiscard]] const HostedModel* hosted(const ModelVersion& model) const;
  /// Of all versions.
  [[nodiscard]] std::size_t experts_ready() const;

  friend bool operator==(const NodeReport&, const NodeReport&) = default;
};

struct AssignedExpert {
  std::uint32_t layer = 0;
  std::uint32_t index = 0;
  Sha256 sha256{};  // of its byte ranges, one after the other; all zero: not recorded

  friend bool operator==(const AssignedExpert&, const AssignedExpert&) = default;
};

/// What a worker shall host of one version: load what is missing, in this order; drop what is not
/// listed.
struct Assignment {
  std::uint64_t epoch = 0;
  ModelVersion model;
  std::vector<AssignedExpert> experts;

  friend bool operator==(const Assignment&, const Assignment&) = default;
};

struct WorkerEndpoint {
  std::string node;
  std::uint64_t incarnation = 0;
  std::string address;

  friend bool operator==(const WorkerEndpoint&, const WorkerEndpoint&) = default;
};

/// What a router does about an expert that no reachable worker has.
enum class DegradedPolicy : std::uint8_t {
  kWait = 0,      // its requests wait until one has it again
  kNextBest = 1,  // the gate's next best takes its place, but never of the best
  kFail = 2,      // its requests fail
};

/// Where each expert of one version may be called now: only workers that reported it ready.
struct RoutingTable {
  std::uint64_t epoch = 0;
  ModelVersion model;
  std::uint32_t layers = 0;
  std::uint32_t experts = 0;  // a layer
  std::vector<WorkerEndpoint> workers;
  /// Pool of expert e of layer l: pool[first[i] .. first[i + 1]) with i = l * experts + e, indexes
  /// into `workers`. `first` has layers * experts + 1 entries.
  std::vector<std::uint32_t> first;
  std::vector<std::uint16_t> pool;
  DegradedPolicy policy = DegradedPolicy::kWait;
  Sha256 backbone{};  // of the version; zeros: not recorded
  /// Nobody wants this version any more: a router keeps it open, and leaves it out of its reports
  /// while it computes nothing of it.
  bool leaving = false;

  /// Empty outside of the range.
  [[nodiscard]] std::span<const std::uint16_t> pool_of(std::uint32_t layer,
                                                       std::uint32_t expert) const;

  friend bool operator==(const RoutingTable&, const RoutingTable&) = default;
};

struct NodeStatus {
  NodeReport report;
  std::uint32_t silent_ms = 0;  // since its last report
  std::uint32_t assigned = 0;   // worker: experts it shall host

  friend bool operator==(const NodeStatus&, const NodeStatus&) = default;
};

/// A version that the fleet serves, or is about to, or leaves.
struct ServedModel {
  ModelVersion model;
  std::uint32_t experts_total = 0;
  std::uint32_t experts_ready = 0;   // with at least one ready replica
  bool complete = false;             // every expert has one
  bool leaving = false;              // nobody wants it: what runs ends, nothing begins
  std::string reason;                // why it is not complete, for people
  std::vector<std::string> aliases;  // of its model, that point at it

  friend bool operator==(const ServedModel&, const ServedModel&) = default;
};

/// All nodes with a lease, and what is served: for gateways and `conclave status`.
struct Fleet {
  std::uint64_t epoch = 0;
  std::vector<ServedModel> models;  // the first is that of `scheduler.model`, if it names one
  std::string reason;               // why not all that is wanted is served, for people
  std::vector<NodeStatus> nodes;
  std::uint64_t term = 0;  // of the scheduler that answers; 0: it needs no lease
  std::string leader;      // address of the scheduler that leads; empty: this one

  /// Null: no such version is served.
  [[nodiscard]] const ServedModel* served(const std::string& name, std::uint32_t version) const;
  /// There is a version, and none that is wanted lacks an expert.
  [[nodiscard]] bool complete() const;

  friend bool operator==(const Fleet&, const Fleet&) = default;
};

/// What is newer than the report's epoch_seen, by role: assignments for workers, tables for
/// routers, fleet for gateways (always, as loads change). No assignments, or tables: no news.
/// Otherwise they are the whole truth: a version without one is left; one of version 0 stands for
/// none at all.
struct ReportReply {
  std::uint32_t lease_ms = 0;  // the node is gone if it does not report for this long
  std::uint64_t epoch = 0;
  std::vector<Assignment> assignments;
  std::vector<RoutingTable> tables;
  std::optional<Fleet> fleet;
  std::uint64_t term = 0;  // of the scheduler that answers; 0: it needs no lease
  std::string leader;      // address of the scheduler to report to instead; empty: this one

  friend bool operator==(const ReportReply&, const ReportReply&) = default;
};

/// scheduler -> node, cast: there is news, report now.
struct Nudge {
  std::uint64_t epoch = 0;

  friend bool operator==(const Nudge&, const Nudge&) = default;
};

/// operator -> scheduler, answered by Fleet.
struct FleetRequest {
  friend bool operator==(const FleetRequest&, const FleetRequest&) = default;
};

}  // namespace conclave::wire
