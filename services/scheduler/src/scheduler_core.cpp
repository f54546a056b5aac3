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

wire::DegradedPolicy policy_of(WithoutReplica setting) {
  switch (setting) {
    case WithoutReplica::kWait:
      return wire::DegradedPolicy::kWait;
    case WithoutReplica::kNextBest:
      return wire::DegradedPolicy::kNextBest;
    case WithoutReplica::kFail:
      return wire::DegradedPolicy::kFail;
  }
  return wire::DegradedPolicy::kWait;
}

}  // namespace

using base::ErrorCode;
using base::fail;
using base::Status;
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
      started_(now),
      last_call_(now),
      heard_(now) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(wall_clock.time_since_epoch()).count();
  epoch_ = static_cast<std::uint64_t>(std::max<std::int64_t>(seconds, 0)) << 20;
}

base::Result<wire::ReportReply> SchedulerCore::on_report(const wire::NodeReport& report, Time now) {
  expire(now);
  if (hears_nobody(now)) roster_.forgive(now - heard_);
  heard_ = now;
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
    node_arrived(report, *arrival);
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

void SchedulerCore::node_arrived(const wire::NodeReport& report, Roster::Arrival arrival) {
  log_.info(arrival == Roster::Arrival::kJoined ? "node_joined" : "node_restarted",
            {{"node", report.node},
             {"role", to_string(report.role)},
             {"incarnation", report.incarnation},
             {"address", report.address}});
  routers_.erase(report.node);
  nudge(NodeRole::kGateway);
}

void SchedulerCore::observe_router(const wire::NodeReport& report) {
  RouterEpochs& epochs = routers_[report.node];
  if (epochs.told != 0 && report.epoch_seen == epochs.told) epochs.applied = epochs.told;
}

void SchedulerCore::observe_worker(const wire::NodeReport& report, Time now) {
  if (phase_ == Phase::kWaiting) {
    phase_ = Phase::kSettling;
    settle_until_ = now + settings_.settle;
  }
  pair_times_.observe(report);
  if (!rollout_) return;
  const auto before = rollout_->limits_of(report.node);
  rollout_->observe(report, now);
  if (loads_) observe_loads(report);
  plan_is_due_ |= before != rollout_->limits_of(report.node);
}

void SchedulerCore::observe_loads(const wire::NodeReport& report) {
  if (const auto* hosted = report.hosted(rollout_->model().version)) {
    loads_->observe(report.node, report.incarnation, *hosted);
  }
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
    refusals_.forget(gone.node);
    nudge(NodeRole::kGateway);
    if (gone.role == NodeRole::kExpertWorker) forget_worker(gone.node);
  }
}

// When nobody at all reports it is this scheduler that is cut off. What it knows then is no worse
// than nothing, and the first node that gets through again shall not hear that all others are gone.
bool SchedulerCore::hears_nobody(Time now) const { return now - heard_ > settings_.lease / 2; }

void SchedulerCore::forget_worker(const std::string& worker) {
  pair_times_.forget(worker);
  if (!rollout_) return;
  rollout_->forget(worker);
  if (loads_) loads_->forget(worker);
  plan_is_due_ = true;
}

Status SchedulerCore::on_model(const wire::ModelRecord& record, const wire::ModelDigests& digests,
                               Time now) {
  const bool is_whole = record.experts > 0 && record.dense_layers < record.layers &&
                        record.expert_bytes > 0 && record.model == digests.model &&
                        record.layers == digests.layers && record.experts == digests.experts &&
                        digests.expert.size() == std::size_t{record.layers} * record.experts;
  if (!is_whole) {
    return fail(ErrorCode::kInvalidArgument,
                "the registry's record of " + base::shown(record.model.name) +
                    " is not that of a model with experts, or its sums are not those of it");
  }
  no_model_.clear();
  ServedModel model{
      record.model,
      {record.model.name, record.layers, record.dense_layers, record.experts, record.expert_bytes},
      digests.expert,
      digests.backbone};
  if (!rollout_ || !rollout_->is_of(model)) {
    serve(std::move(model), now);
  } else if (!(rollout_->model() == model)) {
    // Known from reports so far, or moved to another place.
    plan_is_due_ |= !rollout_->model().is_known();
    rollout_->learn(std::move(model));
  }
  refresh(now);
  return {};
}

void SchedulerCore::serve(ServedModel model, Time now) {
  log_.info("model_chosen", {{"model", model.version.name},
                             {"version", model.version.version},
                             {"sha256", model.version.sha256},
                             {"experts", model.shape.experts_total()},
                             {"from", model.is_known() ? "registry" : "workers"}});
  if (rollout_) {
    log_.warn("model_replaced", {{"model", rollout_->model().version.name},
                                 {"version", rollout_->model().version.version}});
  }
  rollout_.emplace(std::move(model), RolloutOptions{settings_.grace, 2 * settings_.lease,
                                                    policy_of(settings_.without_replica)});
  const auto& shape = rollout_->model().shape;
  loads_.emplace(shape.layers, shape.experts, settings_.load_window, now);
  for (const wire::NodeReport* worker : roster_.of(NodeRole::kExpertWorker)) {
    rollout_->observe(*worker, now);
    observe_loads(*worker);
  }
  plan_is_due_ = true;
  may_rebalance_ = true;
  no_fit_.clear();
  published_.reset();
}

// Until the registry answers, what workers hold is served as it is. Of several models the one with
// most experts wins.
void SchedulerCore::adopt_reported_model(Time now) {
  const wire::HostedModel* best = nullptr;
  std::map<std::string, std::size_t> ready;  // by the file's sum
  for (const wire::NodeReport* worker : roster_.of(NodeRole::kExpertWorker)) {
    for (const wire::HostedModel& hosted : worker->models) {
      if (is_empty(hosted.ready)) continue;
      const std::size_t count = ready[hosted.model.sha256] += hosted.ready.count();
      if (best == nullptr || count > ready[best->model.sha256]) best = &hosted;
    }
  }
  if (best == nullptr) return;
  // How many layers in front are dense shows when experts of others are reported.
  const std::uint32_t layers = best->ready.layers();
  serve({best->model, {best->model.name, layers, layers, best->ready.experts(), 0}, {}}, now);
}

void SchedulerCore::settle(Time now) {
  if (phase_ != Phase::kSettling) return;
  // Nobody is missing if what is reported is already what the plan will ask for.
  const bool is_whole = rollout_ && rollout_->least_copies() >= settings_.replicas;
  if (!is_whole && now < settle_until_) return;
  phase_ = Phase::kSettled;
  log_.info("settled", {{"nodes", roster_.nodes().size()},
                        {"experts_ready", rollout_ ? rollout_->ready().count() : 0}});
}

void SchedulerCore::refresh(Time now) {
  settle(now);
  if (!is_settled()) return;
  if (!rollout_) adopt_reported_model(now);
  if (!rollout_) return;
  if (rollout_->model().is_known() && loads_->judge(request(), now)) {
    log_.info("load_drifted", {{"model", rollout_->model().version.name}});
    plan_is_due_ = true;
  }
  if (plan_is_due_ && rollout_->model().is_known()) {
    plan_is_due_ = false;
    may_rebalance_ = true;
    plan();
  }
  publish(now);
  const auto changed = rollout_->assign(routers_seen(), now, [this] { return next_epoch(); });
  for (const std::string& worker : changed) nudges_[worker] = epoch_;
  if (may_rebalance_ && rollout_->is_stuck()) {
    // Keep what is where it is; only what is missing is placed.
    may_rebalance_ = false;
    log_.warn("plan_stuck", {{"model", rollout_->model().version.name}});
    plan();
  }
  log_completeness();
}

placement::PlanRequest SchedulerCore::request() const {
  placement::PlanRequest request{rollout_->model().shape, settings_.replicas,
                                 rollout_->plan_workers(), may_rebalance_};
  request.loads = loads_->loads();
  request.move_price = settings_.move_price;
  request.pins = pins();
  for (placement::PlanWorker& worker : request.workers) {
    worker.cordoned = standing(worker.name) == Standing::kCordoned;
    worker.leaving |= standing(worker.name) == Standing::kDraining;
  }
  return request;
}

placement::Plan SchedulerCore::plan() {
  const placement::PlanRequest request = this->request();
  placement::Plan made = planner_->plan(request);
  rollout_->set_targets(made.targets);
  loads_->planned(made);
  ++plans_total_;
  moves_total_ += made.moves;
  no_fit_ = made.replicas == 0 ? made.reason : "";
  // A fleet of which every worker leaves is being ended.
  const bool is_wanted = !std::ranges::all_of(request.workers, &placement::PlanWorker::leaving);
  const bool is_short = is_wanted && !made.reason.empty();
  log_.log(is_short ? telemetry::Level::kWarn : telemetry::Level::kInfo, "planned",
           {{"workers", request.workers.size()},
            {"moves", made.moves},
            {"replicas", made.replicas},
            {"rebalance", may_rebalance_},
            {"reason", made.reason},
            {"explanation", made.explanation}});
  return made;
}

Status SchedulerCore::set_standing(const std::string& worker, Standing standing, Time now) {
  const Roster::Entry* known = roster_.find(worker);
  if (known == nullptr || known->report.role != NodeRole::kExpertWorker) {
    return fail(ErrorCode::kNotFound, "there is no worker " + base::shown(worker));
  }
  if (standing == Standing::kInService) {
    standings_.erase(worker);
  } else {
    standings_[worker] = standing;
  }
  log_.info("worker_standing", {{"worker", worker}, {"standing", static_cast<int>(standing)}});
  plan_is_due_ = true;
  refresh(now);
  return {};
}

SchedulerCore::Standing SchedulerCore::standing(const std::string& worker) const {
  const auto known = standings_.find(worker);
  return known == standings_.end() ? Standing::kInService : known->second;
}

void SchedulerCore::pin(std::uint32_t layer, std::uint32_t expert,
                        std::optional<placement::Pin> pin, Time now) {
  if (pin) {
    pin->layer = layer;
    pin->expert = expert;
    pins_[{layer, expert}] = *std::move(pin);
  } else {
    pins_.erase({layer, expert});
  }
  plan_is_due_ = true;
  refresh(now);
}

std::vector<placement::Pin> SchedulerCore::pins() const {
  std::vector<placement::Pin> all;
  for (const auto& [expert, pin] : pins_) all.push_back(pin);
  return all;
}

base::Result<std::pair<placement::PlanRequest, placement::Plan>> SchedulerCore::preview() const {
  if (!rollout_ || !rollout_->model().is_known()) {
    return fail(ErrorCode::kFailedPrecondition, "no model of the registry is served");
  }
  placement::PlanRequest request = this->request();
  request.rebalance = true;
  placement::Plan plan = planner_->plan(request);
  return std::pair(std::move(request), std::move(plan));
}

base::Result<placement::Plan> SchedulerCore::apply(Time now) {
  CONCLAVE_TRY_VOID(preview());
  may_rebalance_ = true;
  placement::Plan made = plan();
  refresh(now);
  return made;
}

void SchedulerCore::publish(Time now) {
  if (published_ && now - *published_ < settings_.publish) return;
  if (!rollout_->table_is_stale()) return;
  rollout_->publish(next_epoch(), now);
  published_ = now;
  nudge(NodeRole::kRouter);
  nudge(NodeRole::kGateway);
  log_.debug("table_published", {{"epoch", epoch_},
                                 {"workers", rollout_->table().workers.size()},
                                 {"copies", rollout_->table().pool.size()}});
}

void SchedulerCore::log_completeness() {
  const bool is_complete = is_empty(rollout_->missing());
  if (is_complete == was_complete_) return;
  was_complete_ = is_complete;
  const auto& version = rollout_->model().version;
  if (is_complete) {
    log_.info("model_complete", {{"model", version.name}, {"version", version.version}});
  } else {
    log_.warn("model_incomplete", {{"model", version.name},
                                   {"version", version.version},
                                   {"missing", rollout_->missing().count()}});
  }
}

std::uint64_t SchedulerCore::routers_seen() const {
  std::uint64_t seen = UINT64_MAX;
  for (const auto& [name, epochs] : routers_) seen = std::min(seen, epochs.applied);
  return seen;
}

std::optional<wire::RoutingTable> SchedulerCore::table_for(const wire::NodeReport& router) {
  if (!rollout_ || rollout_->table().epoch == 0) return std::nullopt;
  RouterEpochs& epochs = routers_[router.node];
  if (rollout_->table().epoch <= router.epoch_seen) {
    if (epochs.told == rollout_->table().epoch) return std::nullopt;
    rollout_->restamp_table(next_epoch());
    nudge(NodeRole::kRouter);
  }
  epochs.told = rollout_->table().epoch;
  return rollout_->table();
}

wire::ReportReply SchedulerCore::reply_to(const wire::NodeReport& report, Time now) {
  wire::ReportReply reply;
  reply.lease_ms = static_cast<std::uint32_t>(settings_.lease.count());
  switch (report.role) {
    case NodeRole::kExpertWorker:
      if (!rollout_) break;
      if (auto news =
              rollout_->news_for(report.node, report.epoch_seen, [this] { return next_epoch(); })) {
        reply.assignments.push_back(std::move(*news));
      }
      break;
    case NodeRole::kRouter:
      if (auto table = table_for(report)) reply.tables.push_back(std::move(*table));
      break;
    case NodeRole::kGateway:
      // A scheduler that has just started would only say that nothing is ready: better nothing.
      if (is_settled() || now >= started_ + settings_.settle) reply.fleet = fleet(now);
      break;
    case NodeRole::kRegistry:
    case NodeRole::kScheduler:
    case NodeRole::kOperator:
      break;
  }
  reply.epoch = epoch_;
  return reply;
}

std::vector<ModelNumbers> SchedulerCore::model_numbers() const {
  if (!rollout_ || !loads_) return {};
  return {numbers_of(*rollout_, *loads_, pair_times_)};
}

wire::Fleet SchedulerCore::fleet(Time now) const {
  wire::Fleet fleet;
  fleet.epoch = epoch_;
  if (rollout_) {
    wire::ServedModel& model = fleet.models.emplace_back();
    model.model = rollout_->model().version;
    model.experts_total = static_cast<std::uint32_t>(rollout_->model().shape.experts_total());
    model.experts_ready = static_cast<std::uint32_t>(rollout_->ready().count());
    model.complete =
        model.experts_ready == model.experts_total && is_settled() && rollout_->table().epoch != 0;
  }
  if (!fleet.complete()) fleet.reason = reason(now);
  for (const auto& [name, entry] : roster_.nodes()) {
    const auto silent =
        std::chrono::duration_cast<std::chrono::milliseconds>(now - entry.heard).count();
    fleet.nodes.push_back({entry.report, static_cast<std::uint32_t>(silent),
                           rollout_ ? rollout_->assigned(name) : 0});
    for (wire::HostedModel& hosted : fleet.nodes.back().report.models) {
      hosted.expert_pairs.clear();  // for this scheduler alone
    }
  }
  return fleet;
}

std::string SchedulerCore::reason(Time now) const {
  if (!rollout_) return "no model: " + no_model_;
  const auto workers = roster_.of(NodeRole::kExpertWorker);
  if (workers.empty()) return "no worker has joined";
  if (!is_settled()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(settle_until_ - now).count();
    return "collecting reports for another " + std::to_string(std::max<std::int64_t>(left, 0)) +
           " ms";
  }
  if (!no_fit_.empty()) return no_fit_;
  return missing_experts(rollout_->missing(), workers);
}

SchedulerStats SchedulerCore::stats() const {
  SchedulerStats stats;
  for (const auto& [name, entry] : roster_.nodes()) {
    ++stats.nodes[{entry.report.role, entry.report.state}];
  }
  stats.epoch = epoch_;
  if (rollout_) {
    stats.experts_total = static_cast<std::uint32_t>(rollout_->model().shape.experts_total());
    stats.experts_ready = static_cast<std::uint32_t>(rollout_->ready().count());
  }
  stats.moves_total = moves_total_;
  stats.plans_total = plans_total_;
  stats.refused_total = refused_total_;
  return stats;
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
