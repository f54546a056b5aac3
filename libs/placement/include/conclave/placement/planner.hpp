// Which worker shall host which expert. A pure function of what the model is, what its experts are
// asked for, what the workers can hold and what they hold now: no clock, no state, no I/O. How a
// plan comes true without a moment in which an expert is nowhere is the scheduler's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
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
  std::string name;  // for messages and pins
  std::uint64_t memory_bytes = 0;
  std::uint32_t slots = 0;    // 0: as memory allows
  bool leaving = false;       // gets nothing: what it holds must move elsewhere
  wire::ExpertBits resident;  // loaded and verified
  wire::ExpertBits assigned;  // by the plan before this one
  double speed = 1.0;         // pairs a second, in any unit that all workers share; > 0
  std::string group;          // device class, "cpu"; pins name it
  /// What fails together: replicas go to different hosts, of different zones, where there are some.
  /// Empty: a host or zone of its own.
  std::string host;
  std::string zone;
  bool cordoned = false;  // keeps what it has and gets nothing new
};

/// Experts that fit into what the worker offers, at most all of them.
std::uint64_t room_of(const PlanWorker& worker, const ModelShape& shape);

/// A rule for experts; it goes before floor, cap and balance. Rules that contradict each other
/// leave the expert without a place, and the plan says so.
struct Pin {
  static constexpr std::uint32_t kAll = UINT32_MAX;
  enum class Kind : std::uint8_t {
    kOnly = 1,   // copies on these workers and on no others
    kAlso = 2,   // a copy on each of these workers, as far as they have room
    kNever = 3,  // no copy on these workers
  };

  std::uint32_t layer = kAll;
  std::uint32_t expert = kAll;
  Kind kind = Kind::kOnly;
  /// Which workers: of this group, and of these names. Empty: of any.
  std::string group;
  std::vector<std::string> workers;

  [[nodiscard]] bool applies_to(std::uint32_t in_layer, std::uint32_t index) const {
    return (layer == kAll || layer == in_layer) && (expert == kAll || expert == index);
  }
  [[nodiscard]] bool names(const PlanWorker& worker) const;
  friend bool operator==(const Pin&, const Pin&) = default;
};

struct PlanRequest {
  ModelShape shape;
  std::uint32_t replicas = 1;  // the floor: copies wanted of each expert; at least 1
  std::vector<PlanWorker> workers;
  /// False: what is resident stays where it is, however uneven, and only what is missing is placed.
  /// Such a plan never needs room that another worker must free first.
  bool rebalance = true;

  // What SpreadPlanner leaves alone:

  /// Pairs a second, or anything in proportion, of (layer, expert): layers * experts values >= 0,
  /// dense layers first; only ratios within a layer count. Empty: not known, so all alike.
  std::vector<double> loads;
  std::uint32_t replicas_max = 0;  // cap of copies of one expert; 0: one on every worker
  /// Copies beyond the floor that hot experts may have together, as a share of the model's experts
  /// (DeepSeek serves V3 with 32 of 256: 0.125).
  double spare = 0.125;
  /// What moving costs: how much the mean over layers of max/mean must fall to be worth moving as
  /// many bytes as all experts have once. Losses, joins, pins and missing copies pay nothing.
  double move_price = 0.1;
  std::vector<Pin> pins;
};

/// How evenly a placement shares the load, if every expert's pairs are spread over its copies in
/// proportion to their workers' speed. 1 is best.
struct Balance {
  double mean = 1;        // over layers, of the busiest worker's time by the mean of all workers
  double worst = 1;       // of the layer where it is greatest
  double total = 1;       // the same with all layers together
  double after_loss = 1;  // `total` after the worst loss of one worker, by what the rest could have
  double activated = 0;   // experts that one worker hosts in a layer, in the mean
};

struct Plan {
  std::vector<wire::ExpertBits> targets;  // by worker, of the model's shape
  std::uint32_t replicas = 0;  // copies of the expert that has fewest; 0: it does not fit
  std::size_t moves = 0;       // experts that a worker shall host and neither held nor was told to
  std::string reason;          // the arithmetic, for people, if there are fewer copies than wanted

  // What SpreadPlanner does not say:

  std::uint64_t bytes_moved = 0;  // of `moves`
  std::size_t drops = 0;          // experts that a worker held or was told to, and shall not
  Balance before;  // of what is assigned (where that is nothing: resident) on the workers there are
  Balance after;
  /// One line for people: what the plan does and what for; never empty.
  std::string explanation;
};

/// Balance of `targets` (by worker of the request) under the request's loads. O(copies).
Balance predict(const PlanRequest& request, std::span<const wire::ExpertBits> targets);
/// Balance of what the request's workers are told to hold now, or hold if they were told nothing.
Balance predict(const PlanRequest& request);

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

/// EPLB-FT: DeepSeek's expert-parallel load balancer (github.com/deepseek-ai/EPLB: replicate
/// greedily what is hottest by copy, pack greedily), made to lose workers and to move little.
///
/// * Every expert has the floor of copies where there is room, on different workers, on different
///   hosts and zones where there are some; hot ones have more, out of `spare`.
/// * No worker is the mirror of another where more than two share the copies: what one loses is
///   shared out among many.
/// * With nothing held it is never worse in max/mean than EPLB with as many copies. With something
///   held it starts from there: first what must be (missing copies, pins, workers that leave), then
///   steps that each relieve the busiest worker of a layer, as long as they are worth their bytes.
/// * The same request gives the same plan; planning again with the plan as `assigned` moves
/// nothing.
///
/// 61 layers of 256 experts, 512 workers: well below 2 s, after one loss below 50 ms
/// (src/planner_bench.cpp).
class EplbFtPlanner final : public Planner {
 public:
  [[nodiscard]] Plan plan(const PlanRequest& request) const override;
};

}  // namespace conclave::placement
