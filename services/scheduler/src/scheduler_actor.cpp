#include "scheduler_actor.hpp"

#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"
#include "reasons.hpp"

namespace conclave::scheduler {

namespace {

// The registry answers from memory and disk; digests of the largest model are 3 MB.
constexpr std::chrono::seconds kRegistryTimeout{10};

constexpr wire::NodeRole kRoles[] = {wire::NodeRole::kGateway, wire::NodeRole::kRouter,
                                     wire::NodeRole::kExpertWorker};
constexpr wire::NodeState kStates[] = {wire::NodeState::kStarting, wire::NodeState::kReady,
                                       wire::NodeState::kDraining};

}  // namespace

void SchedulerMetrics::show(const SchedulerStats& stats) {
  for (const wire::NodeRole role : kRoles) {
    for (const wire::NodeState state : kStates) {
      const auto count = stats.nodes.find({role, state});
      metrics_
          .gauge("conclave_scheduler_nodes", "Nodes with a lease",
                 {{"role", std::string(to_string(role))}, {"state", std::string(name_of(state))}})
          .set(count == stats.nodes.end() ? 0 : count->second);
    }
  }
  const auto set = [this](const char* name, const char* help, double value) {
    metrics_.gauge(name, help).set(value);
  };
  set("conclave_scheduler_epoch", "Epoch of the newest table or assignment",
      static_cast<double>(stats.epoch));
  set("conclave_scheduler_experts", "Experts of the model", stats.experts_total);
  set("conclave_scheduler_experts_ready", "Experts with a ready copy", stats.experts_ready);
  set("conclave_scheduler_moves", "Experts given to workers since the start",
      static_cast<double>(stats.moves_total));
  set("conclave_scheduler_plans", "Plans made since the start",
      static_cast<double>(stats.plans_total));
}

SchedulerActor::behavior_type SchedulerState::make_behavior() {
  self_->set_default_handler(caf::drop);
  self_->delayed_send(self_, parts_.settings.publish, caf::tick_atom_v);
  return {[this](const wire::NodeReport& report) { return on_report(report); },
          [this](const wire::FleetRequest&) { return parts_.core->fleet(parts_.now()); },
          [this](caf::tick_atom) { on_tick(); }, [this](caf::connect_atom) { resolve(); }};
}

caf::result<wire::ReportReply> SchedulerState::on_report(const wire::NodeReport& report) {
  auto reply = parts_.core->on_report(report, parts_.now());
  send_nudges();
  if (!reply) return fabric::to_caf(reply.error());
  return std::move(*reply);
}

void SchedulerState::on_tick() {
  self_->delayed_send(self_, parts_.settings.publish, caf::tick_atom_v);
  const Time now = parts_.now();
  if (now >= resolve_at_) resolve();
  parts_.core->on_tick(now);
  send_nudges();
  parts_.metrics.show(parts_.core->stats());
}

void SchedulerState::resolve() {
  resolve_at_ = parts_.now() + parts_.settings.resolve;
  if (resolving_) return;
  resolving_ = true;
  const auto registry =
      parts_.node.remote<fabric::CatalogActor>(parts_.registry, fabric::kCatalogActor);
  self_->request(registry, kRegistryTimeout, wire::ResolveModel{parts_.settings.model})
      .then([this](const wire::ModelRecord& record) { resolved(record); },
            [this](const caf::error& error) {
              resolving_ = false;
              parts_.core->on_no_model("the registry: " + fabric::from_caf(error).message);
            });
}

void SchedulerState::resolved(const wire::ModelRecord& record) {
  if (record.model == known_) {
    resolving_ = false;
    return;
  }
  const auto registry =
      parts_.node.remote<fabric::CatalogActor>(parts_.registry, fabric::kCatalogActor);
  self_->request(registry, kRegistryTimeout,
                 wire::DigestsRequest{record.model.name, record.model.version})
      .then(
          [this, record](const wire::ModelDigests& digests) {
            resolving_ = false;
            if (const auto taken = parts_.core->on_model(record, digests, parts_.now()); taken) {
              known_ = record.model;
            } else {
              parts_.log.error("model_refused", {{"model", record.model.name},
                                                 {"error", taken.error().to_string()}});
              parts_.core->on_no_model(taken.error().message);
            }
            send_nudges();
          },
          [this](const caf::error& error) {
            resolving_ = false;
            parts_.core->on_no_model("the registry: " + fabric::from_caf(error).message);
          });
}

void SchedulerState::send_nudges() {
  for (const NudgeTo& nudge : parts_.core->take_nudges()) {
    const fabric::LinkId link = parts_.node.find(nudge.node);
    if (link == 0) continue;
    self_->send(parts_.node.remote<fabric::ReporterActor>(link, fabric::kReporterActor),
                nudge.nudge);
  }
}

}  // namespace conclave::scheduler
