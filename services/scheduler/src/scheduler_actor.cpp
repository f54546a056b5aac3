#include "scheduler_actor.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"
#include "conclave/wire/limits.hpp"

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
  parts_.metrics.lead(leads_, term_);
  return {[this](const wire::NodeReport& report) { return on_report(report); },
          [this](const wire::FleetRequest&) { return fleet(); },
          [this](const wire::AdminRequest& request) { return on_admin(request); },
          [this](caf::tick_atom) { on_tick(); },
          [this](caf::connect_atom) {
            if (!leads_) return;
            resolve();
            send_events();
          },
          [this](const wire::CatalogChanged&) { on_catalog_changed(); },
          [this](const LeadChange& change) { on_lead(change); },
          [this](const Leased& leased) { on_leased(leased); },
          [this](const KeptUntil& kept) { answer_kept(kept.change); },
          [this](const KeptQuestion& question) { return kept(question); }};
}

void SchedulerState::begin() {
  for (Unkept& unkept : unkept_) unkept.promise.deliver(fabric::to_caf(stands_by()));
  unkept_.clear();
  core_ = parts_.make_core();
  parts_.metrics.restart();
  admin_.emplace(*core_, parts_.now);
  told_.clear();
  last_problem_.clear();
}

// Who begins to lead goes by what nodes report and the registry keeps; who ends forgets what it had
// in mind, as another one decides now.
void SchedulerState::on_lead(const LeadChange& change) {
  const bool ends = leads_ && !change.leads;
  const bool begins = change.begins && parts_.settings.elect;
  lead_ = caf::actor_cast<LeadActor>(self_->current_sender());
  leads_ = change.leads;
  term_ = change.term;
  leader_ = change.leader;
  if (ends || begins) begin();
  on_leased({change.term, change.leased_until});
  if (change.kept) {
    if (const auto read = from_document(*change.kept)) {
      core_->restore(*read, parts_.now());
    } else {
      parts_.log.error("kept_not_understood", {{"error", read.error().message}});
    }
  }
  parts_.metrics.lead(leads_, term_);
  if (leads_) resolve();
  send_nudges();
}

// Who needs no lease has nobody beside it. One that lapsed, and that nobody took, has a new term.
void SchedulerState::on_leased(const Leased& leased) {
  leased_until_ = leased.until;
  if (!leads_ || !parts_.settings.elect) return;
  term_ = leased.term;
  core_->lead(term_, leased_until_);
}

KeptAnswer SchedulerState::kept(const KeptQuestion& question) const {
  const std::uint64_t change = core_->kept_change();
  if (!leads_ || change == question.change) return {change, std::nullopt};
  return {change, to_document(core_->kept(), wire::kStateBytesMax)};
}

caf::result<wire::Fleet> SchedulerState::fleet() const {
  if (!leads_ && leader_.empty()) return fabric::to_caf(stands_by());
  wire::Fleet fleet;
  if (leads_) fleet = core_->fleet(parts_.now());
  fleet.term = term_;
  fleet.leader = leader_;
  if (!leads_) fleet.reason = stands_by().message;
  return fleet;
}

base::Error SchedulerState::stands_by() const {
  return {base::ErrorCode::kUnavailable,
          leader_.empty() ? "this scheduler stands by, and knows of none that leads"
                          : "this scheduler stands by; " + leader_ + " leads"};
}

caf::result<wire::AdminReply> SchedulerState::on_admin(const wire::AdminRequest& request) {
  if (!leads_) return fabric::to_caf(stands_by());
  if (unkept_.size() >= kUnkeptMax) {
    return fabric::to_caf({base::ErrorCode::kOverloaded, "too many changes wait to be kept"});
  }
  const std::uint64_t before = core_->kept_change();
  wire::AdminReply reply = admin_->serve(request);
  send_nudges();
  const std::uint64_t change = core_->kept_change();
  const bool is_kept_elsewhere = parts_.registries.size() > 0;
  if (change == before || !is_kept_elsewhere) return reply;
  auto promise = self_->make_response_promise<wire::AdminReply>();
  unkept_.push_back({change, parts_.now() + kKeepPatience, std::move(reply), promise});
  if (lead_) self_->send(lead_, Keep{});
  return promise;
}

void SchedulerState::answer_kept(std::uint64_t change) {
  while (!unkept_.empty() && unkept_.front().change <= change) {
    unkept_.front().promise.deliver(std::move(unkept_.front().reply));
    unkept_.pop_front();
  }
}

// In effect all the same, and kept as soon as a registry can be reached.
void SchedulerState::answer_late(Time now) {
  while (!unkept_.empty() && unkept_.front().deadline <= now) {
    parts_.log.warn("change_not_kept_yet", {{"change", unkept_.front().change}});
    unkept_.front().promise.deliver(said_not_kept(std::move(unkept_.front().reply)));
    unkept_.pop_front();
  }
}

caf::result<wire::ReportReply> SchedulerState::on_report(const wire::NodeReport& report) {
  if (!leads_) {
    if (leader_.empty()) return fabric::to_caf(stands_by());
    wire::ReportReply other;
    other.term = term_;
    other.leader = leader_;
    return other;
  }
  // Its lease has run out, and it may not hear from the registry that another one leads.
  if (report.term > term_ && parts_.settings.elect && parts_.now() >= leased_until_ && lead_) {
    self_->send(lead_, Outdone{report.term});
  }
  auto reply = core_->on_report(report, parts_.now());
  send_nudges();
  send_events();
  if (!reply) return fabric::to_caf(reply.error());
  reply->term = term_;
  return std::move(*reply);
}

void SchedulerState::on_tick() {
  self_->delayed_send(self_, parts_.settings.publish, caf::tick_atom_v);
  const Time now = parts_.now();
  answer_late(now);
  if (!leads_) return parts_.metrics.show(SchedulerStats{});
  if (now >= resolve_at_ || (resolve_again_ && !resolving_)) resolve();
  core_->on_tick(now);
  send_nudges();
  parts_.metrics.show(core_->stats());
  if (now < show_models_at_) return;
  show_models_at_ = now + kShowModels;
  parts_.metrics.show(core_->model_numbers());
}

// A question that is under way may have been answered before the change.
void SchedulerState::on_catalog_changed() {
  if (!leads_) return;
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
    const auto taken = core_->on_models(answers_, parts_.now(), book_.left_out());
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
  core_->on_no_model(reason);
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
  if (!leads_) return;
  for (const NudgeTo& nudge : core_->take_nudges()) {
    const fabric::LinkId link = parts_.node.find(nudge.node);
    if (link == 0) continue;
    self_->send(parts_.node.remote<fabric::ReporterActor>(link, fabric::kReporterActor),
                nudge.nudge);
  }
}

// What cannot be told now is told at the next report of anybody: there is one all the time.
void SchedulerState::send_events() {
  const fabric::LinkId link = parts_.registries.link();
  for (wire::AuditEvent& event : core_->refusals().take_events()) {
    const auto ledger = parts_.node.remote<fabric::LedgerActor>(link, fabric::kLedgerActor);
    self_->request(ledger, kRegistryTimeout, event)
        .then([](const wire::Recorded&) {},
              [this, link, event](const caf::error& failed) {
                const base::Error error = fabric::from_caf(failed);
                parts_.log.debug("event_not_told", {{"error", error.to_string()}});
                if (error.code == base::ErrorCode::kInvalidArgument) return;
                if (error.code != base::ErrorCode::kOverloaded) parts_.registries.silent(link);
                core_->refusals().put_back(event);
              });
  }
}

}  // namespace conclave::scheduler
