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

fabric::CatalogActor SchedulerState::registry() const {
  return parts_.node.remote<fabric::CatalogActor>(parts_.registries.link(), fabric::kCatalogActor);
}

void SchedulerState::resolve() {
  resolve_at_ = parts_.now() + parts_.settings.resolve;
  if (resolving_) return;
  resolve_again_ = false;
  resolving_ = true;
  self_->request(registry(), kRegistryTimeout, wire::DeploymentsRequest{book_.revision()})
      .then(
          [this](wire::DeploymentList& list) {
            unanswered_ = 0;
            book_.learn(std::move(list));
            const auto references = book_.references();
            questions_.assign(references.begin(), references.end());
            answers_.clear();
            if (questions_.empty()) {
              return unresolved("scheduler.model names none, and there is no deployment");
            }
            ask_next();
          },
          [this, link = parts_.registries.link()](const caf::error& error) {
            unanswered(link, fabric::from_caf(error));
          });
}

void SchedulerState::ask_next() {
  if (questions_.empty()) return resolved_all();
  std::string reference = std::move(questions_.front());
  questions_.pop_front();
  self_->request(registry(), kRegistryTimeout, wire::ResolveModel{std::move(reference)})
      .then([this](const wire::ModelRecord& record) { resolved(record); },
            [this, link = parts_.registries.link()](const caf::error& error) {
              unanswered(link, fabric::from_caf(error));
            });
}

// Sums are asked for once: they are the most of it, and never change.
void SchedulerState::resolved(const wire::ModelRecord& record) {
  const auto is_it = [&](const WantedModel& known) { return known.record.model == record.model; };
  if (std::ranges::any_of(answers_, is_it)) return ask_next();
  const auto known = std::ranges::find_if(told_, is_it);
  if (known != told_.end()) return add(record, known->digests);
  self_
      ->request(registry(), kRegistryTimeout,
                wire::DigestsRequest{record.model.name, record.model.version})
      .then(
          [this, record](wire::ModelDigests& digests) {
            add(record, std::make_shared<const wire::ModelDigests>(std::move(digests)));
          },
          [this, link = parts_.registries.link()](const caf::error& error) {
            unanswered(link, fabric::from_caf(error));
          });
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

void SchedulerState::add(const wire::ModelRecord& record,
                         std::shared_ptr<const wire::ModelDigests> digests) {
  WantedModel& wanted = answers_.emplace_back();
  wanted.record = record;
  wanted.digests = std::move(digests);
  book_.rule(wanted);
  ask_next();
}

void SchedulerState::resolved_all() {
  if (answers_ != told_) {
    const auto taken = parts_.core->on_models(answers_, parts_.now(), book_.left_out());
    if (!taken) return unresolved(taken.error().message);
    told_ = std::move(answers_);
    send_nudges();
  }
  answers_.clear();
  resolving_ = false;
  last_problem_.clear();
}

// What is served stays; the registry is asked again.
void SchedulerState::unresolved(const std::string& reason) {
  resolving_ = false;
  // Nothing can be served before the first answer: that is worth asking sooner for.
  if (told_.empty()) {
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
