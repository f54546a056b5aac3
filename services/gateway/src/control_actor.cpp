#include "control_actor.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"

namespace conclave::gateway {

using base::ErrorCode;

namespace {

// An index away at the registry; while PostgreSQL is, the registry tries for a second.
constexpr std::chrono::seconds kKeyTimeout{5};
// Of requests, which can do without.
constexpr std::chrono::seconds kDoorTimeout{1};
// Listings of a large registry, plans of a large fleet.
constexpr std::chrono::seconds kAdminTimeout{60};
constexpr std::chrono::seconds kUsageTimeout{30};

ApiError owner_away(std::string_view who) {
  return unavailable(std::string(who) + " cannot be reached");
}

ApiError error_of(const base::Error& error) {
  if (error.code == ErrorCode::kInvalidArgument) return invalid_field({}, error.message);
  if (error.code == ErrorCode::kOverloaded) return overloaded(error.message);
  return unavailable(error.message);
}

/// Whether another owner may know more.
bool is_silent(const base::Error& error) {
  return error.code == ErrorCode::kUnavailable || error.code == ErrorCode::kDeadlineExceeded;
}

}  // namespace

ControlState::ControlState(ControlActor::pointer self, ControlParts parts)
    : self_(self),
      parts_(std::move(parts)),
      door_(parts_.door, keys_, *this, parts_.gateway_metrics),
      usage_(parts_.usage_prefix),
      batches_(parts_.metrics.counter("conclave_gateway_usage_batches_total",
                                      "Batches of usage that the registry has")),
      refused_(parts_.metrics.counter("conclave_gateway_usage_refused_total",
                                      "Batches of usage that the registry refused for good")),
      waiting_(parts_.metrics.gauge("conclave_gateway_usage_waiting",
                                    "1 while usage waits for the registry")) {
  if (parts_.usage_file.empty()) return;
  if (const auto loaded = usage_.load(parts_.usage_file); !loaded) {
    parts_.log.error("usage_not_loaded", {{"error", loaded.error().to_string()}});
    // What cannot be read may be whole: it is not written over.
    if (loaded.error().code != ErrorCode::kCorruptData) parts_.usage_file.clear();
  }
  saved_ = usage_.changes();
}

ControlState::~ControlState() { save_usage(); }

ControlActor::behavior_type ControlState::make_behavior() {
  self_->set_default_handler(caf::drop);
  self_->delayed_send(self_, kTick, caf::tick_atom_v);
  return {[this](const wire::CatalogChanged&) { keys_.doubt(); },
          [this](const AdminMessage& call) { on_admin(call); },
          [this](const Used& used) { on_used(used); },
          [this](const OwnerLink& link) { on_link(link); },
          [this](const Inside& inside) { inside_ = inside.actor; },
          [this](const SubmitMessage& submission) {
            door_.enter(std::move(*submission), parts_.now(), parts_.wall_clock());
          },
          [this](const ClientGone& gone) { door_.client_gone(gone.request); },
          [this](const Counted& counted) {
            door_.counted(counted.request, counted.counts, parts_.now());
          },
          [this](caf::tick_atom) { on_tick(); }};
}

void ControlState::on_link(const OwnerLink& link) {
  auto& links = owners(link.role);
  std::erase(links, link.link);
  if (link.up) links.insert(link.leads ? links.begin() : links.end(), link.link);
  if (link.up && link.role == wire::NodeRole::kRegistry) send_usage();
}

fabric::LinkId ControlState::owner(wire::NodeRole role) {
  const auto& links = owners(role);
  return links.empty() ? 0 : links.front();
}

fabric::LinkId ControlState::next_owner(wire::NodeRole role, fabric::LinkId silent) {
  auto& links = owners(role);
  const auto found = std::find(links.begin(), links.end(), silent);
  if (found != links.end()) std::rotate(found, found + 1, links.end());
  return links.empty() || links.front() == silent ? 0 : links.front();
}

void ControlState::ask(Question question) {
  const fabric::LinkId link = owner(wire::NodeRole::kRegistry);
  if (link == 0) {
    question.then(base::fail(ErrorCode::kUnavailable, "the registry cannot be reached"));
  } else {
    ask_at(link, std::move(question), true);
  }
}

void ControlState::ask_at(fabric::LinkId link, Question question, bool again) {
  const auto ledger = parts_.node.remote<fabric::LedgerActor>(link, fabric::kLedgerActor);
  self_->request(ledger, question.timeout, wire::KeyQuestion{question.secret})
      .then(
          [this, question](const wire::KeyAnswer& answer) {
            keys_.keep(question.secret, answer, parts_.now());
            question.then(answer);
          },
          [this, link, question, again](const caf::error& failed) {
            const base::Error error = fabric::from_caf(failed);
            const fabric::LinkId next =
                is_silent(error) ? next_owner(wire::NodeRole::kRegistry, link) : 0;
            if (again && next != 0) {
              ask_at(next, question, false);
            } else {
              question.then(base::fail(error));
            }
          });
}

void ControlState::ask_key(const wire::Sha256& secret) {
  ask({secret, kDoorTimeout, [this, secret](const base::Result<wire::KeyAnswer>& answer) {
         const base::Status status = answer ? base::Status() : base::fail(answer.error());
         door_.heard(secret, status, parts_.now(), parts_.wall_clock());
       }});
}

void ControlState::take(RequestId request, const quota::Ask& ask) {
  // A store of the gateway always counts, alone if need be.
  parts_.door.store->take(
      ask, [self = ControlActor(self_), request](const base::Result<quota::Counts>& counts) {
        caf::anon_send(self, Counted{request, counts.value_or(quota::Counts{})});
      });
}

void ControlState::pass(Submission submission) {
  caf::anon_send(inside_, std::make_shared<Submission>(std::move(submission)));
}

void ControlState::client_gone(RequestId request) { caf::anon_send(inside_, ClientGone{request}); }

void ControlState::on_admin(const AdminMessage& call) {
  if (const auto key = keys_.fresh(call->secret, parts_.now(), parts_.wall_clock())) {
    pass_on(call, *key);
    return;
  }
  if (admin_open_ >= kAdminMax) {
    call->call.fail(overloaded("Too much administration at once: try again soon"));
    return;
  }
  ++admin_open_;
  ask({call->secret, kKeyTimeout, [this, call](const base::Result<wire::KeyAnswer>& answer) {
         --admin_open_;
         if (answer) {
           pass_on(call, *answer);
           return;
         }
         // Who could look before may look on; changes want a registry anyway.
         const auto known = keys_.usable(call->secret, parts_.now(), parts_.wall_clock());
         if (known && call->request.method == "GET") {
           pass_on(call, *known);
         } else {
           call->call.fail(error_of(answer.error()));
         }
       }});
}

void ControlState::pass_on(const AdminMessage& call, const wire::KeyAnswer& key) {
  if (auto refused = refusal_of(key)) {
    call->call.fail(*refused);
    return;
  }
  call->request.subject = key.subject;
  const bool schedulers = is_schedulers(call->request.path);
  const wire::NodeRole role = schedulers ? wire::NodeRole::kScheduler : wire::NodeRole::kRegistry;
  const fabric::LinkId link = owner(role);
  if (link == 0) {
    call->call.fail(owner_away(schedulers ? "The scheduler" : "The registry"));
    return;
  }
  // A change is not asked for twice: who did not answer may have made it.
  pass_to(link, call, role, call->request.method == "GET");
}

void ControlState::pass_to(fabric::LinkId link, const AdminMessage& call, wire::NodeRole role,
                           bool again) {
  const auto owner = parts_.node.remote<fabric::AdminActor>(link, fabric::kAdminActor);
  self_->request(owner, kAdminTimeout, call->request)
      .then([call](const wire::AdminReply& reply) { call->call.respond(admin_response(reply)); },
            [this, link, call, role, again](const caf::error& failed) {
              const base::Error error = fabric::from_caf(failed);
              const fabric::LinkId next = is_silent(error) ? next_owner(role, link) : 0;
              if (again && next != 0) {
                pass_to(next, call, role, false);
              } else {
                call->call.fail(error_of(error));
              }
            });
}

void ControlState::on_used(const Used& used) {
  if (!used.secret) {
    add_usage(used, nullptr);
    return;
  }
  if (const auto key = keys_.usable(*used.secret, parts_.now(), parts_.wall_clock())) {
    add_usage(used, &*key);
    return;
  }
  ask({*used.secret, kKeyTimeout, [this, used](const base::Result<wire::KeyAnswer>& answer) {
         add_usage(used, answer ? &*answer : nullptr);
       }});
}

void ControlState::add_usage(const Used& used, const wire::KeyAnswer* key) {
  wire::UsageRow row;
  if (key != nullptr && key->valid) {
    row.tenant = key->subject.tenant;
    row.key_id = key->subject.key_id;
  }
  row.model = used.model;
  row.day = static_cast<std::int32_t>(
      std::chrono::duration_cast<std::chrono::hours>(parts_.wall_clock().time_since_epoch())
          .count() /
      24);
  row.requests = 1;
  row.prompt_tokens = used.prompt_tokens;
  row.completion_tokens = used.completion_tokens;
  row.expert_pairs = used.expert_pairs;
  row.device_us = used.device_us;
  usage_.add(row);
}

void ControlState::on_tick() {
  self_->delayed_send(self_, kTick, caf::tick_atom_v);
  parts_.door.store->tick();
  send_usage();
  save_usage();
  waiting_.set(usage_.is_empty() ? 0.0 : 1.0);
}

void ControlState::send_usage() {
  const fabric::LinkId link = owner(wire::NodeRole::kRegistry);
  const wire::UsageBatch* batch = sending_ || link == 0 ? nullptr : usage_.batch();
  if (batch == nullptr) return;
  // With its id, before anybody can have counted it: otherwise the next life counts it again.
  if (!save_usage()) return;
  sending_ = true;
  const auto ledger = parts_.node.remote<fabric::LedgerActor>(link, fabric::kLedgerActor);
  self_->request(ledger, kUsageTimeout, *batch)
      .then(
          [this](const wire::Recorded&) {
            sending_ = false;
            usage_.acknowledged();
            batches_.add();
            save_usage();
          },
          [this, link](const caf::error& failed) {
            sending_ = false;
            const base::Error error = fabric::from_caf(failed);
            if (is_silent(error)) (void)next_owner(wire::NodeRole::kRegistry, link);
            usage_failed(error);
          });
}

// Most failures pass, and the batch is sent again at the next tick. One that is refused for what it
// says would be for ever, with everything behind it.
void ControlState::usage_failed(const base::Error& error) {
  if (error.code != ErrorCode::kInvalidArgument) return;
  const wire::UsageBatch batch = usage_.set_aside();
  wire::UsageRow sum;
  for (const wire::UsageRow& row : batch.rows) {
    sum.requests += row.requests;
    sum.prompt_tokens += row.prompt_tokens;
    sum.completion_tokens += row.completion_tokens;
  }
  refused_.add();
  parts_.log.error("usage_refused", {{"batch", batch.id},
                                     {"error", error.to_string()},
                                     {"rows", batch.rows.size()},
                                     {"requests", sum.requests},
                                     {"prompt_tokens", sum.prompt_tokens},
                                     {"completion_tokens", sum.completion_tokens}});
  save_usage();
}

bool ControlState::save_usage() {
  if (parts_.usage_file.empty() || saved_ == usage_.changes()) return true;
  const std::uint64_t changes = usage_.changes();
  if (const auto saved = usage_.save(parts_.usage_file); !saved) {
    parts_.log.error("usage_not_saved", {{"error", saved.error().to_string()}});
    return false;
  }
  saved_ = changes;
  return true;
}

}  // namespace conclave::gateway
