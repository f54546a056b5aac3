#include "scheduler_actor.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"

namespace conclave::scheduler {

namespace {

// The registry answers from memory and disk; digests of the largest model are 3 MB.
constexpr std::chrono::seconds kRegistryTimeout{10};
// While all services start the registry is not there yet, or still reads the model.
constexpr std::chrono::seconds kStartPatience{5};
// While no model is known: a registry that reads a file has it any moment.
constexpr std::chrono::milliseconds kFirstResolve{200};

// Thousands of series: not at every tick, and more often than anybody scrapes.
constexpr std::chrono::seconds kShowModels{2};

}  // namespace

SchedulerActor::behavior_type SchedulerState::make_behavior() {
  self_->set_default_handler(caf::drop);
  self_->delayed_send(self_, parts_.settings.publish, caf::tick_atom_v);
  return {[this](const wire::NodeReport& report) { return on_report(report); },
          [this](const wire::FleetRequest&) { return parts_.core->fleet(parts_.now()); },
          [this](const wire::AdminRequest& request) {
            wire::AdminReply reply = admin_.serve(request);
            send_nudges();
            return reply;
          },
          [this](const wire::CatalogChanged&) { on_catalog_changed(); },
          [this](caf::tick_atom) { on_tick(); },
          [this](caf::connect_atom) {
            resolve();
            send_events();
          }};
}

caf::result<wire::ReportReply> SchedulerState::on_report(const wire::NodeReport& report) {
  auto reply = parts_.core->on_report(report, parts_.now());
  send_nudges();
  send_events();
  if (!reply) return fabric::to_caf(reply.error());
  return std::move(*reply);
}

void SchedulerState::on_tick() {
  self_->delayed_send(self_, parts_.settings.publish, caf::tick_atom_v);
  const Time now = parts_.now();
  if (now >= resolve_at_ || (resolve_again_ && !resolving_)) resolve();
  parts_.core->on_tick(now);
  send_nudges();
  parts_.metrics.show(parts_.core->stats());
  if (now < show_models_at_) return;
  show_models_at_ = now + kShowModels;
  parts_.metrics.show(parts_.core->model_numbers());
}

// A question that is under way may have been answered before the change.
void SchedulerState::on_catalog_changed() {
  resolve_again_ = resolving_;
  resolve();
}

void SchedulerState::resolve() {
  resolve_at_ = parts_.now() + parts_.settings.resolve;
  if (resolving_) return;
  resolve_again_ = false;
  if (parts_.settings.model.empty()) return unresolved("scheduler.model names none");
  resolving_ = true;
  const fabric::LinkId link = parts_.registries.link();
  const auto registry = parts_.node.remote<fabric::CatalogActor>(link, fabric::kCatalogActor);
  self_->request(registry, kRegistryTimeout, wire::ResolveModel{parts_.settings.model})
      .then([this](const wire::ModelRecord& record) { resolved(record); },
            [this, link](const caf::error& error) { unanswered(link, fabric::from_caf(error)); });
}

void SchedulerState::resolved(const wire::ModelRecord& record) {
  unanswered_ = 0;
  if (record.model == known_) {
    resolving_ = false;
    last_problem_.clear();
    return;
  }
  const fabric::LinkId link = parts_.registries.link();
  const auto registry = parts_.node.remote<fabric::CatalogActor>(link, fabric::kCatalogActor);
  self_
      ->request(registry, kRegistryTimeout,
                wire::DigestsRequest{record.model.name, record.model.version})
      .then(
          [this, record](const wire::ModelDigests& digests) {
            const auto taken = parts_.core->on_model(record, digests, parts_.now());
            if (!taken) return unresolved(taken.error().message);
            resolving_ = false;
            last_problem_.clear();
            known_ = record.model;
            send_nudges();
          },
          [this, link](const caf::error& error) { unanswered(link, fabric::from_caf(error)); });
}

void SchedulerState::unanswered(fabric::LinkId registry, const base::Error& error) {
  unresolved("the registry: " + error.message);
  const bool is_silent = error.code == base::ErrorCode::kUnavailable ||
                         error.code == base::ErrorCode::kDeadlineExceeded;
  if (!is_silent) return;
  parts_.registries.silent(registry);
  if (++unanswered_ < parts_.registries.size()) {
    resolve();
  } else {
    unanswered_ = 0;
  }
}

// What is served stays; the registry is asked again.
void SchedulerState::unresolved(const std::string& reason) {
  resolving_ = false;
  // Nothing can be served before the first answer: that is worth asking sooner for.
  if (known_.version == 0) {
    resolve_at_ = parts_.now() + std::min(parts_.settings.resolve, kFirstResolve);
  }
  parts_.core->on_no_model(reason);
  const Time now = parts_.now();
  if (last_problem_.empty()) problem_since_ = now;
  const bool lasts = now - problem_since_ >= kStartPatience;
  if (reason == last_problem_ && lasts == problem_lasts_) return;
  last_problem_ = reason;
  problem_lasts_ = lasts;
  parts_.log.log(lasts ? telemetry::Level::kWarn : telemetry::Level::kInfo, "model_not_resolved",
                 {{"reference", parts_.settings.model}, {"reason", reason}});
}

void SchedulerState::send_nudges() {
  for (const NudgeTo& nudge : parts_.core->take_nudges()) {
    const fabric::LinkId link = parts_.node.find(nudge.node);
    if (link == 0) continue;
    self_->send(parts_.node.remote<fabric::ReporterActor>(link, fabric::kReporterActor),
                nudge.nudge);
  }
}

// What cannot be told now is told at the next report of anybody: there is one all the time.
void SchedulerState::send_events() {
  const fabric::LinkId link = parts_.registries.link();
  for (wire::AuditEvent& event : parts_.core->refusals().take_events()) {
    const auto ledger = parts_.node.remote<fabric::LedgerActor>(link, fabric::kLedgerActor);
    self_->request(ledger, kRegistryTimeout, event)
        .then([](const wire::Recorded&) {},
              [this, link, event](const caf::error& failed) {
                const base::Error error = fabric::from_caf(failed);
                parts_.log.debug("event_not_told", {{"error", error.to_string()}});
                if (error.code == base::ErrorCode::kInvalidArgument) return;
                if (error.code != base::ErrorCode::kOverloaded) parts_.registries.silent(link);
                parts_.core->refusals().put_back(event);
              });
  }
}

}  // namespace conclave::scheduler
