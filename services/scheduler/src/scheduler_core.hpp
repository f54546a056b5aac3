// All decisions of the scheduler: who is in the fleet, what is served, which expert is where, and
// what each node is told. It knows no actor, no socket and no clock: reports, the registry's
// answers and the time go in; replies, nudges and numbers come out.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/placement/planner.hpp"
#include "conclave/scheduler/settings.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/wire/placement.hpp"
#include "conclave/wire/registry.hpp"
#include "expert_numbers.hpp"
#include "load_book.hpp"
#include "refusal_book.hpp"
#include "rollout.hpp"
#include "roster.hpp"

namespace conclave::scheduler {

/// A node that should report now, because there is news for it.
struct NudgeTo {
  std::string node;
  wire::Nudge nudge;

  friend bool operator==(const NudgeTo&, const NudgeTo&) = default;
};

/// For metrics.
struct SchedulerStats {
  std::map<std::pair<wire::NodeRole, wire::NodeState>, std::uint32_t> nodes;
  std::uint64_t epoch = 0;
  std::uint32_t experts_total = 0;
  std::uint32_t experts_ready = 0;
  std::uint64_t moves_total = 0;  // experts that plans gave to a worker which did not have them
  std::uint64_t plans_total = 0;
  std::uint64_t refused_total = 0;  // reports
};

/// One thread. Time must not go backwards.
///
/// Epochs are one rising number for everything that nodes are sent. It starts above what a former
/// scheduler gave out: at the wall clock's seconds times 2^20 (more changes a second than there can
/// be), or above what a node has seen if a clock was set back.
class SchedulerCore {
 public:
  SchedulerCore(const SchedulerSettings& settings, std::unique_ptr<placement::Planner> planner,
                std::chrono::system_clock::time_point wall_clock, Time now, telemetry::Logger log);

  /// Errors of Roster::admit.
  base::Result<wire::ReportReply> on_report(const wire::NodeReport& report, Time now);

  /// To be called every `publish` milliseconds: leases lapse, tables go out.
  void on_tick(Time now);

  /// What the reference means, by the registry. kInvalidArgument: a record and sums that contradict
  /// each other, or a model without experts; nothing changes then.
  base::Status on_model(const wire::ModelRecord& record, const wire::ModelDigests& digests,
                        Time now);
  /// The registry could not say: what is served stays. The reason is for people.
  void on_no_model(std::string reason) { no_model_ = std::move(reason); }

  /// What people say of a worker. It holds for the worker's name until it is said otherwise, or
  /// this scheduler ends. kNotFound: there is no such worker.
  enum class Standing : std::uint8_t {
    kInService,  // as all are at first
    kCordoned,   // keeps what it has and gets nothing new
    kDraining,   // what it has moves elsewhere, and then away from it
  };
  base::Status set_standing(const std::string& worker, Standing standing, Time now);
  [[nodiscard]] Standing standing(const std::string& worker) const;

  /// A rule for an expert, in place of the one it had; nullopt takes it away.
  void pin(std::uint32_t layer, std::uint32_t expert, std::optional<placement::Pin> pin, Time now);
  [[nodiscard]] std::vector<placement::Pin> pins() const;

  /// The plan that would be made now, and what it would be made of; nothing is changed.
  /// kFailedPrecondition: no model of the registry is served.
  [[nodiscard]] base::Result<std::pair<placement::PlanRequest, placement::Plan>> preview() const;
  /// Plans anew, now, and rolls that out. Errors as preview().
  base::Result<placement::Plan> apply(Time now);

  [[nodiscard]] wire::Fleet fleet(Time now) const;
  /// Null before a model is served.
  [[nodiscard]] const Rollout* rollout() const { return rollout_ ? &*rollout_ : nullptr; }
  [[nodiscard]] const LoadBook* loads() const { return loads_ ? &*loads_ : nullptr; }
  [[nodiscard]] SchedulerStats stats() const;
  /// Of every version that is served, for metrics.
  [[nodiscard]] std::vector<ModelNumbers> model_numbers() const;
  /// Every node once, however many reasons there were.
  std::vector<NudgeTo> take_nudges();
  /// What nodes refused, for the registry to remember.
  [[nodiscard]] RefusalBook& refusals() { return refusals_; }

 private:
  [[nodiscard]] bool is_settled() const { return phase_ == Phase::kSettled; }
  std::uint64_t next_epoch() { return ++epoch_; }

  void node_arrived(const wire::NodeReport& report, Roster::Arrival arrival);
  void observe_router(const wire::NodeReport& report);
  void observe_worker(const wire::NodeReport& report, Time now);
  void observe_loads(const wire::NodeReport& report);
  void forget_worker(const std::string& worker);
  void expire(Time now);
  [[nodiscard]] bool hears_nobody(Time now) const;
  void settle(Time now);
  void adopt_reported_model(Time now);
  void serve(ServedModel model, Time now);
  void refresh(Time now);
  placement::Plan plan();
  [[nodiscard]] placement::PlanRequest request() const;
  void publish(Time now);
  void log_completeness();
  [[nodiscard]] std::uint64_t routers_seen() const;
  [[nodiscard]] std::optional<wire::RoutingTable> table_for(const wire::NodeReport& router);
  [[nodiscard]] wire::ReportReply reply_to(const wire::NodeReport& report, Time now);
  [[nodiscard]] std::string reason(Time now) const;
  void nudge(wire::NodeRole role);

  // Epochs of tables that a router was sent, and reported back: what else it has seen came from a
  // former scheduler and says nothing.
  struct RouterEpochs {
    std::uint64_t told = 0;
    std::uint64_t applied = 0;
  };

  enum class Phase { kWaiting, kSettling, kSettled };

  SchedulerSettings settings_;
  std::unique_ptr<placement::Planner> planner_;
  telemetry::Logger log_;
  Roster roster_;
  std::optional<Rollout> rollout_;
  std::optional<LoadBook> loads_;  // of the rollout's model
  PairTimes pair_times_;
  std::map<std::string, Standing> standings_;  // of those that are not in service
  std::map<std::pair<std::uint32_t, std::uint32_t>, placement::Pin> pins_;
  std::string no_model_ = "the registry has not answered yet";
  std::string no_fit_;  // why the plan gives some experts no place

  Phase phase_ = Phase::kWaiting;
  const Time started_;
  Time last_call_;
  Time heard_;  // a report of any node
  Time settle_until_{};
  bool plan_is_due_ = false;
  bool may_rebalance_ = true;  // false once a plan that does got stuck, until the next change
  std::optional<Time> published_;
  bool was_complete_ = false;

  std::uint64_t epoch_ = 0;
  std::uint64_t moves_total_ = 0;
  std::uint64_t plans_total_ = 0;
  std::uint64_t refused_total_ = 0;
  std::map<std::string, RouterEpochs> routers_;
  std::map<std::string, std::uint64_t> nudges_;
  RefusalBook refusals_;
};

}  // namespace conclave::scheduler
