// The part of the core that makes what nodes are told out of what was decided.
#include <algorithm>
#include <utility>

#include "bits.hpp"
#include "reasons.hpp"
#include "scheduler_core.hpp"

namespace conclave::scheduler {

using wire::NodeRole;

// All tables have one epoch, so that a router that names it has them all.
void SchedulerCore::publish(Time now) {
  if (published_ && now - *published_ < settings_.publish) return;
  const auto is_stale = [](const ServedVersion& version) {
    return version.rollout.table_is_stale();
  };
  if (!std::ranges::any_of(versions_, is_stale) && !tables_changed_) return;
  tables_epoch_ = next_epoch();
  tables_changed_ = false;
  for (ServedVersion& version : versions_) {
    if (is_stale(version)) version.rollout.publish(tables_epoch_, now);
  }
  stamp_tables();
  published_ = now;
  nudge(NodeRole::kRouter);
  nudge(NodeRole::kGateway);
  log_.debug("tables_published", {{"epoch", epoch_}, {"versions", versions_.size()}});
}

void SchedulerCore::stamp_tables() {
  for (ServedVersion& version : versions_) {
    if (version.rollout.table().epoch != 0) version.rollout.restamp_table(tables_epoch_);
  }
}

std::uint64_t SchedulerCore::routers_seen() const {
  std::uint64_t seen = UINT64_MAX;
  for (const auto& [name, epochs] : routers_) seen = std::min(seen, epochs.applied);
  return seen;
}

std::vector<wire::RoutingTable> SchedulerCore::tables_for(const wire::NodeReport& router) {
  if (tables_epoch_ == 0) return {};
  RouterEpochs& epochs = routers_[router.node];
  if (tables_epoch_ <= router.epoch_seen) {
    if (epochs.told == tables_epoch_) return {};
    tables_epoch_ = next_epoch();
    stamp_tables();
    nudge(NodeRole::kRouter);
  }
  epochs.told = tables_epoch_;
  std::vector<wire::RoutingTable> tables;
  for (const ServedVersion& version : versions_) {
    if (version.rollout.table().epoch != 0) tables.push_back(version.rollout.table());
  }
  if (tables.empty()) tables.push_back({.epoch = tables_epoch_});
  return tables;
}

// All of them or none: what is not among them is dropped.
std::vector<wire::Assignment> SchedulerCore::assignments_for(const wire::NodeReport& worker,
                                                             Time now) {
  // A version that this scheduler does not serve may be in the tables of a former one.
  const auto hold = holds_.find(worker.node);
  const bool is_held = hold != holds_.end() && now < hold->second;
  if (is_held && std::ranges::any_of(worker.models, [this](const wire::HostedModel& hosted) {
        return !is_empty(hosted.ready) && find(hosted.model) == nullptr;
      })) {
    return {};
  }
  std::uint64_t newest = dropped_epoch_;
  bool has_news = dropped_epoch_ > worker.epoch_seen;
  for (const ServedVersion& version : versions_) {
    newest = std::max(newest, version.rollout.epoch_of(worker.node));
    has_news |= version.rollout.has_news(worker.node, worker.epoch_seen);
    // Not planned for yet.
    if (version.is_known() && version.rollout.epoch_of(worker.node) == 0) return {};
  }
  if (!has_news) return {};
  const std::uint64_t epoch = newest > worker.epoch_seen ? newest : next_epoch();
  std::vector<wire::Assignment> assignments;
  for (ServedVersion& version : versions_) {
    if (auto assignment = version.rollout.tell(worker.node, epoch)) {
      assignments.push_back(std::move(*assignment));
    }
  }
  if (assignments.empty()) assignments.push_back({.epoch = epoch});
  return assignments;
}

// Nothing but who leads: the node reports again under this term.
wire::ReportReply SchedulerCore::to_follow() const {
  wire::ReportReply reply;
  reply.lease_ms = static_cast<std::uint32_t>(settings_.lease.count());
  reply.epoch = epoch_;
  return reply;
}

wire::ReportReply SchedulerCore::reply_to(const wire::NodeReport& report, Time now) {
  wire::ReportReply reply;
  reply.lease_ms = static_cast<std::uint32_t>(settings_.lease.count());
  switch (report.role) {
    case NodeRole::kExpertWorker:
      reply.assignments = assignments_for(report, now);
      break;
    case NodeRole::kRouter:
      reply.tables = tables_for(report);
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

wire::ServedModel SchedulerCore::describe(const ServedVersion& version) const {
  const Rollout& rollout = version.rollout;
  wire::ServedModel model;
  model.model = rollout.model().version;
  model.experts_total = static_cast<std::uint32_t>(rollout.model().shape.experts_total());
  model.experts_ready = static_cast<std::uint32_t>(rollout.ready().count());
  model.complete =
      model.experts_ready == model.experts_total && is_settled() && rollout.table().epoch != 0;
  model.leaving = version.leaving.has_value();
  model.aliases = version.aliases;
  if (model.complete || !is_settled()) return model;
  const auto workers = roster_.of(NodeRole::kExpertWorker);
  const wire::ExpertBits missing = rollout.missing();
  if (!version.no_fit.empty()) {
    model.reason = version.no_fit;
  } else if (!workers.empty() && !is_empty(missing)) {
    model.reason = missing_experts(missing, workers);
  }
  return model;
}

// First what `scheduler.model` means, unless only what it meant before is served yet.
std::vector<const ServedVersion*> SchedulerCore::in_order() const {
  std::vector<const ServedVersion*> order;
  for (const WantedModel& wanted : wanted_) {
    for (const ServedVersion& version : versions_) {
      if (wire::is_same_bytes(version.version(), wanted.record.model)) order.push_back(&version);
    }
  }
  for (const ServedVersion& version : versions_) {
    if (std::ranges::find(order, &version) == order.end()) order.push_back(&version);
  }
  if (wanted_.empty()) return order;
  const wire::ModelVersion& first = wanted_.front().record.model;
  const bool is_there = !order.empty() && wire::is_same_bytes(order.front()->version(), first);
  if (is_there && is_served(*order.front())) return order;
  const auto before = std::ranges::find_if(order, [&](const ServedVersion* version) {
    return !version->wanted && version->version().name == first.name && is_served(*version);
  });
  if (before != order.end()) std::rotate(order.begin(), before, std::next(before));
  return order;
}

std::uint32_t SchedulerCore::assigned(const std::string& worker) const {
  std::uint32_t experts = 0;
  for (const ServedVersion& version : versions_) experts += version.rollout.assigned(worker);
  return experts;
}

wire::Fleet SchedulerCore::fleet(Time now) const {
  wire::Fleet fleet;
  fleet.epoch = epoch_;
  for (const ServedVersion* version : in_order()) fleet.models.push_back(describe(*version));
  fleet.reason = fleet.complete() ? waiting_ : reason(now);
  for (const auto& [name, entry] : roster_.nodes()) {
    const auto silent =
        std::chrono::duration_cast<std::chrono::milliseconds>(now - entry.heard).count();
    fleet.nodes.push_back({entry.report, static_cast<std::uint32_t>(silent), assigned(name)});
    for (wire::HostedModel& hosted : fleet.nodes.back().report.models) {
      hosted.expert_pairs.clear();  // for this scheduler alone
    }
  }
  return fleet;
}

std::vector<ModelNumbers> SchedulerCore::model_numbers() const {
  std::vector<ModelNumbers> numbers;
  for (const ServedVersion& version : versions_) {
    numbers.push_back(numbers_of(version.rollout, version.loads, pair_times_));
  }
  return numbers;
}

std::string SchedulerCore::reason(Time now) const {
  if (versions_.empty()) return "no model: " + no_model_;
  const auto workers = roster_.of(NodeRole::kExpertWorker);
  if (workers.empty()) return "no worker has joined";
  if (!is_settled()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(settle_until_ - now).count();
    return "collecting reports for another " + std::to_string(std::max<std::int64_t>(left, 0)) +
           " ms";
  }
  for (const ServedVersion* version : in_order()) {
    const wire::ServedModel model = describe(*version);
    if (!model.complete && !model.leaving && !model.reason.empty()) return model.reason;
  }
  return waiting_.empty() ? "tables are on their way" : waiting_;
}

SchedulerStats SchedulerCore::stats() const {
  SchedulerStats stats;
  for (const auto& [name, entry] : roster_.nodes()) {
    ++stats.nodes[{entry.report.role, entry.report.state}];
  }
  stats.epoch = epoch_;
  stats.versions = static_cast<std::uint32_t>(versions_.size());
  for (const ServedVersion& version : versions_) {
    stats.experts_total +=
        static_cast<std::uint32_t>(version.rollout.model().shape.experts_total());
    stats.experts_ready += static_cast<std::uint32_t>(version.rollout.ready().count());
  }
  stats.moves_total = moves_total_;
  stats.plans_total = plans_total_;
  stats.refused_total = refused_total_;
  stats.failed_steps_total = failed_steps_total_;
  stats.lost_workers = static_cast<std::uint32_t>(lost_.size());
  return stats;
}

}  // namespace conclave::scheduler
