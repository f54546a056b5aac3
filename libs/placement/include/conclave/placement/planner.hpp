// Which worker shall host which expert. A pure function of what the model is, what the workers can
// hold and what they hold now: no clock, no state, no I/O. How a plan comes true without a moment
// in which an expert is nowhere is the scheduler's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "conclave/wire/placement.hpp"

namespace conclave::placement {

/// What is to be placed: the experts of the layers from `dense_layers` on.
struct ModelShape {
  std::string name;  // for messages
  std::uint32_t layers = 0;
  std::uint32_t dense_layers = 0;
  std::uint32_t experts = 0;       // a layer
  std::uint64_t expert_bytes = 0;  // of the largest expert

  [[nodiscard]] std::uint64_t experts_total() const {
    return std::uint64_t{layers - dense_layers} * experts;
  }
  friend bool operator==(const ModelShape&, const ModelShape&) = default;
};

/// A worker that lives. The sets have the model's shape, or none: empty.
struct PlanWorker {
  std::string name;  // for messages
  std::uint64_t memory_bytes = 0;
  std::uint32_t slots = 0;    // 0: as memory allows
  bool leaving = false;       // gets nothing: what it holds must move elsewhere
  wire::ExpertBits resident;  // loaded and verified
  wire::ExpertBits assigned;  // by the plan before this one
};

/// Experts that fit into what the worker offers, at most all of them.
std::uint64_t room_of(const PlanWorker& worker, const ModelShape& shape);

struct PlanRequest {
  ModelShape shape;
  std::uint32_t replicas = 1;  // copies wanted of each expert
  std::vector<PlanWorker> workers;
  /// False: what is resident stays where it is, however uneven, and only what is missing is placed.
  /// Such a plan never needs room that another worker must free first.
  bool rebalance = true;
};

struct Plan {
  std::vector<wire::ExpertBits> targets;  // by worker, of the model's shape
  std::uint32_t replicas = 0;  // copies of the expert that has fewest; 0: it does not fit
  std::size_t moves = 0;       // experts that a worker shall host and neither held nor was told to
  std::string reason;          // the arithmetic, for people, if there are fewer copies than wanted
};

/// Stateless; any thread. Never two copies of an expert on one worker, never more experts on a
/// worker than room_of() says. What does not fit is placed as far as there is room.
class Planner {
 public:
  virtual ~Planner() = default;
  [[nodiscard]] virtual Plan plan(const PlanRequest& request) const = 0;
};

/// The same number of experts for every worker, as far as it has room, in all and in each layer (up
/// to one), as if each expert were wanted equally often. Moves as little as that allows: planning
/// again with the plan as `assigned` moves nothing; a worker that joins takes its share and nothing
/// else moves; those of one that leaves are shared out.
class SpreadPlanner final : public Planner {
 public:
  [[nodiscard]] Plan plan(const PlanRequest& request) const override;
};

}  // namespace conclave::placement
