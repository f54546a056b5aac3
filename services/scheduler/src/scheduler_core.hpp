// All decisions of the scheduler: who is in the fleet, which versions are served, which expert is
// where, and what each node is told. It knows no actor, no socket and no clock: reports, the
// registry's answers and the time go in; replies, nudges and numbers come out.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
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
#include "kept.hpp"
#include "lost_workers.hpp"
#include "refusal_book.hpp"
#include "roster.hpp"
#include "served_version.hpp"

namespace conclave::scheduler {

/// A node that should report now, because there is news for it.
struct NudgeTo {
  std::string node;
  wire::Nudge nudge;

  friend bool operator==(const NudgeTo&, const NudgeTo&) = default;
};

/// Versions wanted at once: each has a backbone in every router, and a copy of all its experts.
inline constexpr std::size_t kServedVersionsMax = 4;

/// For metrics.
struct SchedulerStats {
  std::map<std::pair<wire::NodeRole, wire::NodeState>, std::uint32_t> nodes;
  std::uint64_t epoch = 0;
  std::uint32_t versions = 0;       // served, or on the way
  std::uint32_t experts_total = 0;  // of all versions, as the next
  std::uint32_t experts_ready = 0;
  std::uint64_t moves_total = 0;  // experts that plans gave to a worker which did not have them
  std::uint64_t plans_total = 0;
  std::uint64_t refused_total = 0;  // reports
  std::uint64_t failed_steps_total = 0;
  std::uint32_t lost_workers = 0;  // with a lease, and out of the routers' reach
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

  /// Under which term it leads, and until when nobody else can. Without it: under none, for ever.
  ///
  /// What a worker says counts when it has followed this term: before that a former leader may
  /// still have it drop what it has. And without a lease there may be a later leader, which routers
  /// follow already: then a copy that tables leave out is kept until all would have told of it.
  void lead(std::uint64_t term, Time leased_until) {
    term_ = term;
    leased_until_ = leased_until;
  }

  /// Errors of Roster::admit; kFailedPrecondition: the node follows a later leader.
  base::Result<wire::ReportReply> on_report(const wire::NodeReport& report, Time now);

  /// To be called every `publish` milliseconds: leases lapse, tables go out.
  void on_tick(Time now);

  /// What is to be served, by the registry: first what `scheduler.model` means, if it names one,
  /// then what deployments name; not empty, at most kServedVersionsMax. A version that is not
  /// wanted any more stays until all that are wanted are served by a router, and goes when no
  /// router computes anything of it. One that does not fit beside what is there waits, or, with
  /// `scheduler.version-change` = gap, takes its place at once.
  /// `left_out`: why more is not wanted, for people.
  /// kInvalidArgument: a record and sums that contradict each other, or a model without experts;
  /// nothing changes then.
  base::Status on_models(std::vector<WantedModel> wanted, Time now, std::string left_out = {});
  /// The registry could not say: what is served stays. The reason is for people.
  void on_no_model(std::string reason) { no_model_ = std::move(reason); }

  /// What people say of a worker. It holds for the worker's name until it is said otherwise.
  /// kNotFound: there is no such worker; kOverloaded: too much is said already.
  using Standing = scheduler::Standing;
  base::Status set_standing(const std::string& worker, Standing standing, Time now);
  [[nodiscard]] Standing standing(const std::string& worker) const;

  /// Which version people mean: "name:version", a name (the first of that name), or empty: the
  /// first of all. nullptr: it is not served.
  [[nodiscard]] const ServedVersion* find(std::string_view reference = {}) const;

  /// A rule for an expert of a version, in place of the one it had; nullopt takes it away.
  void pin(const ServedVersion& version, std::uint32_t layer, std::uint32_t expert,
           std::optional<placement::Pin> pin, Time now);

  /// The plan that would be made now, and what it would be made of; nothing is changed.
  /// kFailedPrecondition: the registry has not told us of the version.
  [[nodiscard]] base::Result<std::pair<placement::PlanRequest, placement::Plan>> preview(
      const ServedVersion& version) const;
  /// Plans anew, now, and rolls that out. Errors as preview().
  base::Result<placement::Plan> apply(const ServedVersion& version, Time now);
  /// Rolls out the placement before the last one that was planned, on the workers there are now.
  /// Errors as preview(); kFailedPrecondition: there was none.
  base::Result<placement::Plan> roll_back(const ServedVersion& version, Time now);

  /// What the next scheduler must know, and how often it has changed since this one began.
  [[nodiscard]] Kept kept() const;
  [[nodiscard]] std::uint64_t kept_change() const { return kept_change_; }
  /// What a former scheduler knew. What was said to this one goes before it.
  void restore(Kept kept, Time now);

  [[nodiscard]] wire::Fleet fleet(Time now) const;
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

  void node_arrived(const wire::NodeReport& report, Roster::Arrival arrival, Time now);
  void observe_router(const wire::NodeReport& report);
  void observe_worker(const wire::NodeReport& report, Time now);
  void forget_worker(const std::string& worker);
  void expire(Time now);
  [[nodiscard]] bool hears_nobody(Time now) const;
  [[nodiscard]] std::chrono::milliseconds hold() const;
  void settle(Time now);
  void refresh(Time now);
  void nudge(wire::NodeRole role);

  // Versions: scheduler_versions.cpp.
  ServedVersion* find(const wire::ModelVersion& model);
  [[nodiscard]] std::vector<const ServedModel*> models() const;
  void adopt_reported_models(Time now);
  void admit_wanted(Time now);
  [[nodiscard]] std::string why_not(const ServedModel& model) const;
  ServedVersion& serve(ServedModel model, Time now);
  void want(ServedVersion& version, const WantedModel& wanted);
  void follow(ServedVersion& version, const WantedModel& wanted);
  void retire(Time now);
  void drop(std::list<ServedVersion>::iterator version);
  void change_plans();
  [[nodiscard]] bool is_served(const ServedVersion& version) const;
  [[nodiscard]] bool is_open_anywhere(const ServedVersion& version) const;
  [[nodiscard]] std::uint64_t room(const ServedVersion& version, const std::string& worker) const;
  void plan_what_is_due(Time now);
  placement::Plan plan(ServedVersion& version);
  void adopt(ServedVersion& version, const placement::PlanRequest& request,
             const placement::Plan& made);
  [[nodiscard]] placement::PlanRequest request(const ServedVersion& version) const;
  [[nodiscard]] std::vector<placement::Pin> pins_of(const ServedVersion& version) const;
  void assign(Time now);
  void replan_if_stuck();
  void log_completeness(ServedVersion& version);

  // What outlives it, and what goes wrong: scheduler_memory.cpp.
  bool make_room_for_standing();
  void recall(ServedVersion& version);
  void note_lost_workers(Time now);
  void note_failed_steps(ServedVersion& version, Time now);

  // What nodes are told: scheduler_replies.cpp.
  void publish(Time now);
  void stamp_tables();
  [[nodiscard]] std::uint64_t routers_seen() const;
  [[nodiscard]] std::vector<wire::RoutingTable> tables_for(const wire::NodeReport& router);
  [[nodiscard]] std::vector<wire::Assignment> assignments_for(const wire::NodeReport& worker,
                                                              Time now);
  [[nodiscard]] wire::ReportReply to_follow() const;
  [[nodiscard]] wire::ReportReply reply_to(const wire::NodeReport& report, Time now);
  [[nodiscard]] wire::ServedModel describe(const ServedVersion& version) const;
  [[nodiscard]] std::vector<const ServedVersion*> in_order() const;
  [[nodiscard]] std::string reason(Time now) const;
  [[nodiscard]] std::uint32_t assigned(const std::string& worker) const;

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
  std::list<ServedVersion> versions_;  // at most wire::kVersionsMax
  std::vector<WantedModel> wanted_;    // empty: the registry has not answered yet
  PairTimes pair_times_;
  std::map<std::string, Standing> standings_;  // of those that are not in service
  std::map<std::string, KeptModel>
      recalled_;  // of a former scheduler, of what is not served so far
  LostWorkers lost_workers_;
  // That routers do not reach: what they have is placed elsewhere, too.
  std::set<std::string> lost_;
  std::string no_model_ = "the registry has not answered yet";
  std::string left_out_;  // why more is not wanted
  std::string waiting_;   // why a wanted version is not served yet

  Phase phase_ = Phase::kWaiting;
  const Time started_;
  Time last_call_;
  Time heard_;  // a report of any node
  Time settle_until_{};
  std::optional<Time> published_;
  Time steps_seen_{};

  std::uint64_t kept_change_ = 0;
  std::uint64_t failed_steps_total_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint64_t tables_epoch_ = 0;   // of all tables; 0: none yet
  bool tables_changed_ = false;      // a version is gone: its table, too
  std::uint64_t dropped_epoch_ = 0;  // since when assignments have a version less
  std::uint64_t moves_total_ = 0;
  std::uint64_t plans_total_ = 0;
  std::uint64_t refused_total_ = 0;
  std::map<std::string, RouterEpochs> routers_;
  std::map<std::string, std::uint64_t> nudges_;
  std::map<std::string, Time> holds_;  // by worker: until then it keeps what it came with
  RefusalBook refusals_;

  std::uint64_t term_ = 0;
  Time leased_until_ = Time::max();
};

}  // namespace conclave::scheduler
