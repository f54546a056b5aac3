// How the placement of one model comes true: which experts each worker shall host now, and which of
// them routers may use. Between the two there is always a ready copy of an expert, if there was
// one:
//
//   plan -> assignment -> the worker loads and reports it ready -> table with the new copy, without
//   the old one -> every router has it and a grace period is over -> assignment without the old one
//
// It decides neither where experts belong (placement::Planner) nor who is alive (Roster).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "conclave/placement/planner.hpp"
#include "conclave/wire/placement.hpp"
#include "roster.hpp"

namespace conclave::scheduler {

/// A model as the registry knows it, or, without sums and sizes, as workers report it.
struct ServedModel {
  wire::ModelVersion version;
  placement::ModelShape shape;        // expert_bytes 0: not known
  std::vector<wire::Sha256> digests;  // (layer, expert); empty: not known
  wire::Sha256 backbone{};            // zeros: not known

  /// Whether the registry told us: without it nothing is assigned.
  [[nodiscard]] bool is_known() const { return shape.expert_bytes != 0; }
  friend bool operator==(const ServedModel&, const ServedModel&) = default;
};

struct RolloutOptions {
  std::chrono::milliseconds grace{1000};
  /// Longest wait for routers that do not take the newest table.
  std::chrono::milliseconds router_patience{10'000};
  /// What routers do where no copy of an expert is left; in every table.
  wire::DegradedPolicy policy = wire::DegradedPolicy::kWait;
  /// So long nothing is dropped that a worker has when it is first heard: routers that have not
  /// been heard yet may call it there by the table of a former leader, which takes as long to
  /// notice that the worker has left it.
  std::chrono::milliseconds hold{0};
  /// As `grace`, while another scheduler might lead that this one does not know of.
  std::chrono::milliseconds grace_unleased{0};
};

using NextEpoch = std::function<std::uint64_t()>;

/// One thread; the rollout of one model.
class Rollout {
 public:
  Rollout(ServedModel model, const RolloutOptions& options);

  [[nodiscard]] const ServedModel& model() const { return model_; }
  /// Whether `model` is of the same bytes and shape, so that learn() takes it.
  [[nodiscard]] bool is_of(const ServedModel& model) const;
  /// The same bytes, known better or lying elsewhere; anything else is a new rollout.
  void learn(ServedModel model);

  /// A live worker's newest report. A new incarnation starts without experts; its targets stay.
  /// What a worker brings that we do not know of may be in the table of a former scheduler, so it
  /// is kept like copies that a table leaves out.
  void observe(const wire::NodeReport& worker, Time now);
  void forget(const std::string& worker);

  /// What a plan depends on beside what is loaded: it is due again when this changes. Nothing for a
  /// worker that is not there.
  struct Limits {
    std::string group;  // device class: "cpu" of "cpu:0-3"
    std::string host;   // of its address; empty: not known
    std::string zone;   // empty: not known
    std::uint64_t incarnation = 0;
    std::uint64_t memory_bytes = 0;
    std::uint32_t slots = 0;
    bool leaving = false;

    friend bool operator==(const Limits&, const Limits&) = default;
  };
  [[nodiscard]] std::optional<Limits> limits_of(const std::string& worker) const;

  /// The live workers as a planner sees them.
  [[nodiscard]] std::vector<placement::PlanWorker> plan_workers() const;
  /// What routers do without a copy; in the next table.
  void set_policy(wire::DegradedPolicy policy);
  /// Whether routers are to finish what they have of it; in the next table.
  void set_leaving(bool leaving);

  /// By worker, as plan_workers() gave them.
  void set_targets(const std::vector<wire::ExpertBits>& targets);

  /// Whether what routers may use is not what the table says.
  [[nodiscard]] bool table_is_stale() const;
  void publish(std::uint64_t epoch, Time now);
  [[nodiscard]] const wire::RoutingTable& table() const { return table_; }
  /// The same table under a newer epoch: all tables of a reply have the same one.
  void restamp_table(std::uint64_t epoch) { table_.epoch = epoch; }

  /// Brings the assignments up to date; names of workers that have a new one. `routers_seen`: the
  /// lowest epoch that a live router has applied. `leased`: nobody else leads. `room`: experts of
  /// this model that fit on a worker beside those of other models.
  using Room = std::function<std::uint64_t(const std::string& worker)>;
  std::vector<std::string> assign(std::uint64_t routers_seen, bool leased, Time now,
                                  const NextEpoch& next_epoch, const Room& room);
  /// Whether the worker has not been told its assignment. What it has seen of a former scheduler
  /// may have the same epoch or a greater one.
  [[nodiscard]] bool has_news(const std::string& worker, std::uint64_t epoch_seen) const;
  /// What a worker shall host now, under this epoch, which counts as told. Of a model that the
  /// registry has not told us of: what it has. Nothing: it was not planned for yet.
  [[nodiscard]] std::optional<wire::Assignment> tell(const std::string& worker,
                                                     std::uint64_t epoch);
  /// Of its assignment; 0: none yet.
  [[nodiscard]] std::uint64_t epoch_of(const std::string& worker) const;

  /// Something is under way: a load, a drop, a table.
  [[nodiscard]] bool is_moving() const;
  /// A copy of the plan has not even been asked for, since there is no room. If nothing is moving,
  /// it waits for room that only another load would free: the plan cannot come true.
  [[nodiscard]] bool is_blocked() const;

  /// Experts with a ready copy, and experts that have none.
  [[nodiscard]] wire::ExpertBits ready() const;
  [[nodiscard]] wire::ExpertBits missing() const;
  /// Who has a ready copy of an expert now, by name.
  [[nodiscard]] std::vector<std::string> hosts_of(std::uint32_t layer, std::uint32_t index) const;
  /// Experts that a worker shall host now; 0 for others.
  [[nodiscard]] std::uint32_t assigned(const std::string& worker) const;
  /// Of those the ones that it has not got ready.
  [[nodiscard]] wire::ExpertBits pending(const std::string& worker) const;
  /// Fewest ready copies of any expert.
  [[nodiscard]] std::uint32_t least_copies() const;

 private:
  struct Hosting {
    Limits limits;
    std::string address;
    wire::ExpertBits ready;                   // of what it is to host
    wire::ExpertBits target;                  // by the plan
    wire::ExpertBits listed;                  // by its assignment
    wire::ExpertBits in_table;                // by the published table
    std::uint64_t epoch = 0;                  // of its assignment; 0: none yet
    std::vector<wire::AssignedExpert> order;  // of its assignment
    bool was_told = false;                    // the assignment, to the worker
    bool is_outdated = false;                 // the assignment names the model's former place
  };
  // Copies that a table left out, and when it did.
  struct Removal {
    std::uint64_t epoch = 0;  // of the table; 0: the first one is still to come
    Time published;
    Time hold_until{};
    std::map<std::string, wire::ExpertBits> copies;
  };

  void learn_layers(const wire::ExpertBits& ready);
  [[nodiscard]] wire::ExpertBits none() const;
  [[nodiscard]] static placement::PlanWorker plan_worker(const std::string& name,
                                                         const Hosting& hosting);
  [[nodiscard]] std::map<std::string, wire::ExpertBits> usable() const;
  [[nodiscard]] wire::ExpertBits in_removal(const std::string& worker) const;
  [[nodiscard]] std::vector<wire::AssignedExpert> to_load(const Hosting& hosting,
                                                          const wire::ExpertBits& kept,
                                                          const wire::ExpertBits& urgent,
                                                          std::uint64_t room) const;
  [[nodiscard]] wire::AssignedExpert assigned_expert(std::uint32_t layer,
                                                     std::uint32_t index) const;

  ServedModel model_;
  RolloutOptions options_;
  wire::ExpertBits all_;  // experts that there are
  std::map<std::string, Hosting> workers_;
  std::vector<Removal> removals_;
  bool leaving_ = false;
  wire::RoutingTable table_;       // epoch 0: none yet
  bool table_is_outdated_ = true;  // beyond what `in_table` shows: an endpoint or the model changed
};

}  // namespace conclave::scheduler
