#include "scheduler_core.hpp"

#include <algorithm>
#include <utility>

#include "bits.hpp"
#include "conclave/base/text.hpp"
#include "reasons.hpp"

namespace conclave::scheduler {

namespace {

// Ticks come once a publish interval. When so many in a row did not, this process was stopped or
// starved, and so was its hearing: silence then says nothing about the nodes.
constexpr int kTicksMissedMax = 10;

}  // namespace

using base::ErrorCode;
using base::fail;
using wire::NodeRole;
using wire::NodeState;

SchedulerCore::SchedulerCore(const SchedulerSettings& settings,
                             std::unique_ptr<placement::Planner> planner,
                             std::chrono::system_clock::time_point wall_clock, Time now,
                             telemetry::Logger log)
    : settings_(settings),
      planner_(std::move(planner)),
      log_(std::move(log)),
      roster_(settings.lease),
      lost_workers_(settings.lost_after),
      started_(now),
      last_call_(now),
      heard_(now) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(wall_clock.time_since_epoch()).count();
  epoch_ = static_cast<std::uint64_t>(std::max<std::int64_t>(seconds, 0)) << 20;
}

base::Result<wire::ReportReply> SchedulerCore::on_report(const wire::NodeReport& report, Time now) {
  expire(now);
  if (report.term > term_ && term_ != 0) {
    ++refused_total_;
    return fail(
        ErrorCode::kFailedPrecondition,
        base::shown(report.node) + " follows a leader of term " + std::to_string(report.term));
  }
  // Behind what is refused: whose nodes all follow another one hears nobody either.
  if (hears_nobody(now)) roster_.forgive(now - heard_);
  heard_ = now;
  if (report.role == NodeRole::kExpertWorker && report.term != 0 && report.term < term_) {
    return to_follow();
  }
  const Roster::Entry* known = roster_.find(report.node);
  const auto role_before = known != nullptr ? known->report.role : report.role;
  const auto state_before = known != nullptr ? known->report.state : report.state;
  const auto arrival = roster_.admit(report, now);
  if (!arrival) {
    ++refused_total_;
    return fail(arrival.error());
  }
  epoch_ = std::max(epoch_, report.epoch_seen);
  if (*arrival != Roster::Arrival::kRenewed) {
    node_arrived(report, *arrival, now);
  } else if (state_before != report.state) {
    log_.info("node_state",
              {{"node", report.node}, {"state", name_of(report.state)}, {"reason", report.reason}});
  }
  refusals_.observe(report);
  if (report.role == NodeRole::kRouter) observe_router(report);
  if (report.role == NodeRole::kExpertWorker) {
    observe_worker(report, now);
  } else if (role_before == NodeRole::kExpertWorker) {
    forget_worker(report.node);
  }
  refresh(now);
  const wire::ReportReply reply = reply_to(report, now);
  nudges_.erase(report.node);  // the reply has it all
  return reply;
}

void SchedulerCore::on_tick(Time now) {
  expire(now);
  refresh(now);
}

void SchedulerCore::node_arrived(const wire::NodeReport& report, Roster::Arrival arrival,
                                 Time now) {
  log_.info(arrival == Roster::Arrival::kJoined ? "node_joined" : "node_restarted",
            {{"node", report.node},
             {"role", to_string(report.role)},
             {"incarnation", report.incarnation},
             {"address", report.address}});
  routers_.erase(report.node);
  holds_.erase(report.node);
  if (report.experts_ready() > 0) holds_[report.node] = now + hold();
  nudge(NodeRole::kGateway);
}

void SchedulerCore::observe_router(const wire::NodeReport& report) {
  if (report.state == NodeState::kDraining) {
    lost_workers_.forget(report.node);
  } else {
    lost_workers_.observe(report.node, report.lost, last_call_);
  }
  RouterEpochs& epochs = routers_[report.node];
  if (epochs.told != 0 && report.epoch_seen == epochs.told) epochs.applied = epochs.told;
}

void SchedulerCore::observe_worker(const wire::NodeReport& report, Time now) {
  if (phase_ == Phase::kWaiting) {
    phase_ = Phase::kSettling;
    settle_until_ = now + settings_.settle;
  }
  pair_times_.observe(report);
  bool has_changed = false;
  for (ServedVersion& version : versions_) {
    const auto before = version.rollout.limits_of(report.node);
    version.rollout.observe(report, now);
    if (const auto* hosted = report.hosted(version.version())) {
      version.loads.observe(report.node, report.incarnation, *hosted);
    }
    has_changed |= before != version.rollout.limits_of(report.node);
  }
  if (has_changed) change_plans();
}

void SchedulerCore::expire(Time now) {
  const auto away = now - std::exchange(last_call_, now);
  if (away > kTicksMissedMax * settings_.publish) {
    log_.warn("was_away",
              {{"ms", std::chrono::duration_cast<std::chrono::milliseconds>(away).count()}});
    roster_.forgive(away);
    heard_ += away;
  }
  if (hears_nobody(now)) return;
  for (const wire::NodeReport& gone : roster_.expire(now)) {
    log_.warn("node_lost", {{"node", gone.node},
                            {"role", to_string(gone.role)},
                            {"incarnation", gone.incarnation},
                            {"lease_ms", settings_.lease.count()}});
    nudges_.erase(gone.node);
    routers_.erase(gone.node);
    lost_workers_.forget(gone.node);
    holds_.erase(gone.node);
    refusals_.forget(gone.node);
    nudge(NodeRole::kGateway);
    if (gone.role == NodeRole::kExpertWorker) forget_worker(gone.node);
  }
}

// As long as a former leader counts on a worker that has left it, and until routers that follow
// that one have its next table.
std::chrono::milliseconds SchedulerCore::hold() const {
  return settings_.lease + 5 * settings_.publish;
}

// When nobody at all reports it is this scheduler that is cut off. What it knows then is no worse
// than nothing, and the first node that gets through again shall not hear that all others are gone.
bool SchedulerCore::hears_nobody(Time now) const { return now - heard_ > settings_.lease / 2; }

void SchedulerCore::forget_worker(const std::string& worker) {
  pair_times_.forget(worker);
  for (ServedVersion& version : versions_) {
    version.rollout.forget(worker);
    version.loads.forget(worker);
    version.steps.forget(worker);
  }
  change_plans();
}

void SchedulerCore::settle(Time now) {
  if (phase_ != Phase::kSettling) return;
  // Nobody is missing if what is reported is already what the plans will ask for.
  const bool is_whole =
      !versions_.empty() && std::ranges::all_of(versions_, [&](const ServedVersion& version) {
        return version.rollout.least_copies() >=
               (version.replicas == 0 ? settings_.replicas : version.replicas);
      });
  if (!is_whole && now < settle_until_) return;
  phase_ = Phase::kSettled;
  adopt_reported_models(now);
  log_.info("settled", {{"nodes", roster_.nodes().size()}, {"versions", versions_.size()}});
}

void SchedulerCore::refresh(Time now) {
  settle(now);
  if (!is_settled()) return;
  if (versions_.empty()) adopt_reported_models(now);
  admit_wanted(now);
  retire(now);
  note_lost_workers(now);
  plan_what_is_due(now);
  publish(now);
  assign(now);
  replan_if_stuck();
  for (ServedVersion& version : versions_) log_completeness(version);
}

void SchedulerCore::nudge(NodeRole role) {
  for (const wire::NodeReport* node : roster_.of(role)) nudges_[node->node] = epoch_;
}

std::vector<NudgeTo> SchedulerCore::take_nudges() {
  std::vector<NudgeTo> taken;
  for (const auto& [node, epoch] : nudges_) taken.push_back({node, {epoch}});
  nudges_.clear();
  return taken;
}

}  // namespace conclave::scheduler
