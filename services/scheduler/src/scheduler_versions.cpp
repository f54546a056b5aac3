// The part of the core that decides which versions there are, and what becomes of each.
#include <algorithm>
#include <iterator>
#include <utility>

#include "bits.hpp"
#include "conclave/base/text.hpp"
#include "conclave/wire/limits.hpp"
#include "scheduler_core.hpp"

namespace conclave::scheduler {

using base::ErrorCode;
using base::fail;
using base::Status;
using wire::NodeRole;

namespace {

// Nodes ask every five seconds whether another one leads by now (fleet::SchedulerChoice), and tell
// the one that they followed: twice that.
constexpr std::chrono::milliseconds kGraceUnleased{10'000};

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

Status check(const WantedModel& wanted) {
  const wire::ModelRecord& record = wanted.record;
  const wire::ModelDigests& digests = *wanted.digests;
  const bool is_whole = record.experts > 0 && record.dense_layers < record.layers &&
                        record.expert_bytes > 0 && record.model.version != 0 &&
                        record.model == digests.model && record.layers == digests.layers &&
                        record.experts == digests.experts &&
                        digests.expert.size() == std::size_t{record.layers} * record.experts;
  if (is_whole) return {};
  return fail(ErrorCode::kInvalidArgument,
              "the registry's record of " + base::shown(record.model.name) +
                  " is not that of a model with experts, or its sums are not those of it");
}

ServedModel model_of(const WantedModel& wanted) {
  const wire::ModelRecord& record = wanted.record;
  return {
      record.model,
      {record.model.name, record.layers, record.dense_layers, record.experts, record.expert_bytes},
      wanted.digests->expert,
      wanted.digests->backbone};
}

}  // namespace

Status SchedulerCore::on_models(std::vector<WantedModel> wanted, Time now, std::string left_out) {
  for (const WantedModel& model : wanted) CONCLAVE_TRY_VOID(check(model));
  no_model_.clear();
  wanted_ = std::move(wanted);
  left_out_ = std::move(left_out);
  for (ServedVersion& version : versions_) version.wanted = false;
  for (const WantedModel& model : wanted_) {
    if (ServedVersion* const version = find(model.record.model)) want(*version, model);
  }
  admit_wanted(now);
  refresh(now);
  return {};
}

void SchedulerCore::want(ServedVersion& version, const WantedModel& wanted) {
  ServedModel known = model_of(wanted);
  if (!version.rollout.is_of(known)) return;
  if (!(version.rollout.model() == known)) {
    // Known from reports so far, or moved to another place.
    if (!version.is_known()) change_plans();
    version.rollout.learn(std::move(known));
  }
  follow(version, wanted);
}

ServedVersion* SchedulerCore::find(const wire::ModelVersion& model) {
  const auto found = std::ranges::find_if(versions_, [&](const ServedVersion& version) {
    return wire::is_same_bytes(version.version(), model);
  });
  return found == versions_.end() ? nullptr : &*found;
}

const ServedVersion* SchedulerCore::find(std::string_view reference) const {
  for (const ServedVersion* version : in_order()) {
    if (reference.empty() || reference == version->name() || reference == version->version().name) {
      return version;
    }
  }
  return nullptr;
}

std::vector<const ServedModel*> SchedulerCore::models() const {
  std::vector<const ServedModel*> models;
  for (const ServedVersion& version : versions_) models.push_back(&version.rollout.model());
  return models;
}

// What workers hold is served as it is until the registry says what is wanted: a scheduler that has
// just started must not have anything dropped. Of too many those with most experts stay.
void SchedulerCore::adopt_reported_models(Time now) {
  std::map<std::string, std::pair<std::size_t, const wire::HostedModel*>> reported;
  for (const wire::NodeReport* worker : roster_.of(NodeRole::kExpertWorker)) {
    for (const wire::HostedModel& hosted : worker->models) {
      if (is_empty(hosted.ready)) continue;
      auto& [count, any] =
          reported[hosted.model.sha256 + hosted.model.name + std::to_string(hosted.model.version)];
      count += hosted.ready.count();
      any = &hosted;
    }
  }
  std::vector<std::pair<std::size_t, const wire::HostedModel*>> most;
  for (const auto& [key, entry] : reported) most.push_back(entry);
  std::ranges::stable_sort(most, std::ranges::greater{},
                           [](const auto& entry) { return entry.first; });
  for (const auto& [count, hosted] : most) {
    if (versions_.size() >= wire::kVersionsMax) return;
    // How many layers in front are dense shows when experts of others are reported.
    const std::uint32_t layers = hosted->ready.layers();
    if (find(hosted->model) != nullptr) continue;
    serve({hosted->model, {hosted->model.name, layers, layers, hosted->ready.experts(), 0}, {}},
          now);
  }
}

// Why a wanted version cannot be served beside what is there; empty: it can.
std::string SchedulerCore::why_not(const ServedModel& model) const {
  if (versions_.empty()) return {};
  const std::string name = model.version.name + ":" + std::to_string(model.version.version);
  if (versions_.size() >= wire::kVersionsMax) {
    return name + " waits until versions that nobody wants are gone";
  }
  std::vector<Rollout::Limits> workers;
  for (const wire::NodeReport* worker : roster_.of(NodeRole::kExpertWorker)) {
    if (auto limits = versions_.front().rollout.limits_of(worker->node)) {
      limits->leaving |= standing(worker->node) != Standing::kInService;
      workers.push_back(*std::move(limits));
    }
  }
  std::vector<const ServedModel*> all = models();
  all.push_back(&model);
  if (fit_together(workers, all)) return {};
  return name + " waits for memory: workers have no room for one copy of each expert beside " +
         versions_.front().name() + "; add workers, or set scheduler.version-change to gap";
}

void SchedulerCore::admit_wanted(Time now) {
  waiting_ = left_out_;
  for (const WantedModel& wanted : wanted_) {
    if (ServedVersion* const served = find(wanted.record.model)) {
      // The registry may have answered before workers said that they have it.
      if (!served->wanted) want(*served, wanted);
      continue;
    }
    // Without all workers nobody knows what fits; the first one is served in any case.
    if (!versions_.empty() && !is_settled()) continue;
    ServedModel model = model_of(wanted);
    std::string problem = why_not(model);
    if (!problem.empty() && settings_.version_change == VersionChange::kGap) {
      for (auto at = versions_.begin(); at != versions_.end();) {
        const auto next = std::next(at);
        if (!at->wanted) drop(at);
        at = next;
      }
      problem = why_not(model);
    }
    if (problem.empty()) {
      follow(serve(std::move(model), now), wanted);
    } else if (waiting_.empty()) {
      waiting_ = std::move(problem);
    }
  }
}

ServedVersion& SchedulerCore::serve(ServedModel model, Time now) {
  log_.info("model_chosen", {{"model", model.version.name},
                             {"version", model.version.version},
                             {"sha256", model.version.sha256},
                             {"experts", model.shape.experts_total()},
                             {"from", model.is_known() ? "registry" : "workers"}});
  ServedVersion& version = versions_.emplace_back(
      std::move(model),
      RolloutOptions{settings_.grace, 2 * settings_.lease, policy_of(settings_.without_replica),
                     hold(), std::max(settings_.grace, kGraceUnleased)},
      settings_.load_window, settings_.load_deadline, now);
  recall(version);
  for (const wire::NodeReport* worker : roster_.of(NodeRole::kExpertWorker)) {
    version.rollout.observe(*worker, now);
    if (const auto* hosted = worker->hosted(version.version())) {
      version.loads.observe(worker->node, worker->incarnation, *hosted);
    }
  }
  change_plans();
  published_.reset();
  return version;
}

void SchedulerCore::follow(ServedVersion& version, const WantedModel& wanted) {
  version.wanted = true;
  version.leaving.reset();
  version.aliases = wanted.record.aliases;
  version.rollout.set_leaving(false);
  version.rollout.set_policy(wanted.policy.value_or(policy_of(settings_.without_replica)));
  if (version.replicas == wanted.replicas && version.rules == wanted.pins) return;
  version.replicas = wanted.replicas;
  version.rules = wanted.pins;
  version.plan_is_due = true;
}

bool SchedulerCore::is_served(const ServedVersion& version) const {
  if (!is_settled() || version.rollout.table().epoch == 0) return false;
  if (!is_empty(version.rollout.missing())) return false;
  const auto routers = roster_.of(NodeRole::kRouter);
  return routers.empty() || std::ranges::any_of(routers, [&](const wire::NodeReport* router) {
           const wire::HostedModel* open = router->hosted(version.version());
           return router->state != wire::NodeState::kDraining && open != nullptr &&
                  open->state == wire::NodeState::kReady;
         });
}

bool SchedulerCore::is_open_anywhere(const ServedVersion& version) const {
  return std::ranges::any_of(roster_.of(NodeRole::kRouter), [&](const wire::NodeReport* router) {
    return router->hosted(version.version()) != nullptr;
  });
}

// Gateways hear within a second that a version is leaving, and a lease is longer; routers then have
// nothing of it that runs, and get nothing new.
void SchedulerCore::retire(Time now) {
  if (wanted_.empty()) return;
  const bool all_served = std::ranges::all_of(wanted_, [&](const WantedModel& wanted) {
    const ServedVersion* version = find(wanted.record.model);
    return version != nullptr && is_served(*version);
  });
  for (auto at = versions_.begin(); at != versions_.end();) {
    const auto next = std::next(at);
    if (!at->wanted && !at->leaving && all_served) {
      log_.info("version_leaves",
                {{"model", at->version().name}, {"version", at->version().version}});
      at->leaving = now;
      at->rollout.set_leaving(true);
      nudge(NodeRole::kGateway);
    } else if (at->leaving && now - *at->leaving >= settings_.lease && !is_open_anywhere(*at)) {
      drop(at);
    }
    at = next;
  }
}

void SchedulerCore::drop(std::list<ServedVersion>::iterator version) {
  log_.info("version_dropped",
            {{"model", version->version().name}, {"version", version->version().version}});
  versions_.erase(version);
  tables_changed_ = true;
  dropped_epoch_ = next_epoch();
  for (const wire::NodeReport* worker : roster_.of(NodeRole::kExpertWorker)) {
    nudges_[worker->node] = epoch_;
  }
  nudge(NodeRole::kGateway);
  change_plans();
}

void SchedulerCore::change_plans() {
  for (ServedVersion& version : versions_) version.plan_is_due = true;
}

// Experts that fit beside what the other versions are told to host there, or have.
std::uint64_t SchedulerCore::room(const ServedVersion& version, const std::string& worker) const {
  const auto limits = version.rollout.limits_of(worker);
  if (!limits) return 0;
  std::uint64_t bytes = 0;
  std::uint64_t experts = 0;
  for (const ServedVersion& other : versions_) {
    if (&other == &version) continue;
    const std::uint64_t listed = other.rollout.assigned(worker);
    experts += listed;
    bytes += listed * (other.is_known() ? other.rollout.model().shape.expert_bytes
                                        : version.rollout.model().shape.expert_bytes);
  }
  const std::uint64_t left = limits->memory_bytes - std::min(limits->memory_bytes, bytes);
  const std::uint64_t room = left / version.rollout.model().shape.expert_bytes;
  if (limits->slots == 0) return room;
  return std::min<std::uint64_t>(room,
                                 limits->slots - std::min<std::uint64_t>(limits->slots, experts));
}

void SchedulerCore::plan_what_is_due(Time now) {
  // Looks at all that workers have: once a beat is soon enough.
  const bool looks = now - steps_seen_ >= settings_.publish;
  if (looks) steps_seen_ = now;
  for (ServedVersion& version : versions_) {
    if (!version.is_known()) continue;
    if (looks) note_failed_steps(version, now);
    if (version.loads.judge(request(version), now)) {
      log_.info("load_drifted", {{"model", version.name()}});
      version.plan_is_due = true;
    }
    if (!std::exchange(version.plan_is_due, false)) continue;
    version.may_rebalance = true;
    plan(version);
  }
}

placement::PlanRequest SchedulerCore::request(const ServedVersion& version) const {
  placement::PlanRequest request{version.rollout.model().shape,
                                 version.replicas == 0 ? settings_.replicas : version.replicas,
                                 version.rollout.plan_workers(), version.may_rebalance};
  request.loads = version.loads.loads();
  request.move_price = settings_.move_price;
  request.pins = pins_of(version);
  const auto all = models();
  for (placement::PlanWorker& worker : request.workers) {
    const Share share =
        share_of(*version.rollout.limits_of(worker.name), version.rollout.model(), all);
    worker.memory_bytes = share.memory_bytes;
    worker.slots = share.slots;
    worker.cordoned = standing(worker.name) == Standing::kCordoned;
    worker.leaving |= standing(worker.name) == Standing::kDraining || lost_.contains(worker.name);
  }
  std::ranges::move(version.steps.bars(request.workers), std::back_inserter(request.pins));
  return request;
}

// A person's rule for an expert goes before those of deployments.
std::vector<placement::Pin> SchedulerCore::pins_of(const ServedVersion& version) const {
  std::vector<placement::Pin> all;
  for (const auto& [expert, pin] : version.pins) all.push_back(pin);
  for (const placement::Pin& rule : version.rules) {
    if (!version.pins.contains({rule.layer, rule.expert})) all.push_back(rule);
  }
  return all;
}

placement::Plan SchedulerCore::plan(ServedVersion& version) {
  placement::PlanRequest request = this->request(version);
  version.history.fill_in(request);
  placement::Plan made = planner_->plan(request);
  if (version.history.planned(request, made)) ++kept_change_;
  adopt(version, request, made);
  return made;
}

void SchedulerCore::adopt(ServedVersion& version, const placement::PlanRequest& request,
                          const placement::Plan& made) {
  version.rollout.set_targets(made.targets);
  version.loads.planned(made);
  ++plans_total_;
  moves_total_ += made.moves;
  version.no_fit = made.replicas == 0 ? made.reason : "";
  // A fleet of which every worker leaves is being ended.
  const bool is_wanted = !std::ranges::all_of(request.workers, &placement::PlanWorker::leaving);
  const bool is_short = is_wanted && !made.reason.empty();
  log_.log(is_short ? telemetry::Level::kWarn : telemetry::Level::kInfo, "planned",
           {{"model", version.name()},
            {"workers", request.workers.size()},
            {"moves", made.moves},
            {"replicas", made.replicas},
            {"rebalance", version.may_rebalance},
            {"reason", made.reason},
            {"explanation", made.explanation}});
}

void SchedulerCore::pin(const ServedVersion& version, std::uint32_t layer, std::uint32_t expert,
                        std::optional<placement::Pin> pin, Time now) {
  ServedVersion* const pinned = find(version.version());
  if (pinned == nullptr) return;
  if (pin) {
    pin->layer = layer;
    pin->expert = expert;
    pinned->pins[{layer, expert}] = *std::move(pin);
  } else {
    pinned->pins.erase({layer, expert});
  }
  ++kept_change_;
  pinned->plan_is_due = true;
  refresh(now);
}

base::Result<std::pair<placement::PlanRequest, placement::Plan>> SchedulerCore::preview(
    const ServedVersion& version) const {
  if (!version.is_known()) {
    return fail(ErrorCode::kFailedPrecondition, "the registry has not told of this version yet");
  }
  placement::PlanRequest request = this->request(version);
  request.rebalance = true;
  placement::Plan plan = planner_->plan(request);
  return std::pair(std::move(request), std::move(plan));
}

base::Result<placement::Plan> SchedulerCore::apply(const ServedVersion& version, Time now) {
  CONCLAVE_TRY_VOID(preview(version));
  ServedVersion& planned = *find(version.version());
  planned.steps.forgive();  // somebody wants it tried again
  planned.may_rebalance = true;
  placement::Plan made = plan(planned);
  refresh(now);
  return made;
}

// What one version does not hold any more makes room for the next.
void SchedulerCore::assign(Time now) {
  for (ServedVersion& version : versions_) {
    const auto changed = version.rollout.assign(
        routers_seen(), now < leased_until_, now, [this] { return next_epoch(); },
        [&](const std::string& worker) { return room(version, worker); });
    for (const std::string& worker : changed) nudges_[worker] = epoch_;
  }
}

// Keep what is where it is; only what is missing is placed. While another version moves there may
// be room any moment.
void SchedulerCore::replan_if_stuck() {
  const auto is_moving = [](const ServedVersion& version) { return version.rollout.is_moving(); };
  if (std::ranges::any_of(versions_, is_moving)) return;
  for (ServedVersion& version : versions_) {
    if (!version.may_rebalance || !version.rollout.is_blocked()) continue;
    version.may_rebalance = false;
    log_.warn("plan_stuck", {{"model", version.name()}});
    plan(version);
  }
}

void SchedulerCore::log_completeness(ServedVersion& version) {
  const bool is_complete = is_empty(version.rollout.missing());
  if (is_complete == version.was_complete) return;
  version.was_complete = is_complete;
  const auto& model = version.version();
  if (is_complete) {
    log_.info("model_complete", {{"model", model.name}, {"version", model.version}});
  } else {
    log_.warn("model_incomplete", {{"model", model.name},
                                   {"version", model.version},
                                   {"missing", version.rollout.missing().count()}});
  }
}

}  // namespace conclave::scheduler
