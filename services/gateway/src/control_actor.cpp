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

}  // namespace

ControlState::ControlState(ControlActor::pointer self, ControlParts parts)
    : self_(self),
      parts_(std::move(parts)),
      usage_(parts_.usage_prefix),
      batches_(parts_.metrics.counter("conclave_gateway_usage_batches_total",
                                      "Batches of usage that the registry has")),
      waiting_(parts_.metrics.gauge("conclave_gateway_usage_waiting",
                                    "1 while usage waits for the registry")) {
  if (parts_.usage_file.empty()) return;
  if (const auto loaded = usage_.load(parts_.usage_file); !loaded) {
    parts_.log.error("usage_not_loaded", {{"error", loaded.error().to_string()}});
  }
  saved_ = usage_.changes();
}

ControlState::~ControlState() { save_usage(); }

ControlActor::behavior_type ControlState::make_behavior() {
  self_->set_default_handler(caf::drop);
  self_->delayed_send(self_, kTick, caf::tick_atom_v);
  return {[this](const AdminMessage& call) { on_admin(call); },
          [this](const Used& used) { on_used(used); },
          [this](const OwnerLink& link) { on_link(link); }, [this](caf::tick_atom) { on_tick(); }};
}

void ControlState::on_link(const OwnerLink& link) {
  auto& links = link.role == wire::NodeRole::kRegistry ? registries_ : schedulers_;
  std::erase(links, link.link);
  if (link.up) links.push_back(link.link);
  if (link.up && link.role == wire::NodeRole::kRegistry) send_usage();
}

fabric::LinkId ControlState::owner(wire::NodeRole role) const {
  const auto& links = role == wire::NodeRole::kRegistry ? registries_ : schedulers_;
  return links.empty() ? 0 : links.front();
}

void ControlState::ask(const wire::Sha256& secret,
                       std::function<void(base::Result<wire::KeyAnswer>)> then) {
  const fabric::LinkId link = owner(wire::NodeRole::kRegistry);
  if (link == 0) {
    then(base::fail(ErrorCode::kUnavailable, "the registry cannot be reached"));
    return;
  }
  const auto ledger = parts_.node.remote<fabric::LedgerActor>(link, fabric::kLedgerActor);
  self_->request(ledger, kKeyTimeout, wire::KeyQuestion{secret})
      .then(
          [this, secret, then](const wire::KeyAnswer& answer) {
            keys_.keep(secret, answer, parts_.now());
            then(answer);
          },
          [then](const caf::error& error) { then(base::fail(fabric::from_caf(error))); });
}

void ControlState::on_admin(const AdminMessage& call) {
  if (const auto key = keys_.fresh(call->secret, parts_.now())) {
    pass_on(call, *key);
    return;
  }
  if (admin_open_ >= kAdminMax) {
    call->call.fail(overloaded("Too much administration at once: try again soon"));
    return;
  }
  ++admin_open_;
  ask(call->secret, [this, call](base::Result<wire::KeyAnswer> answer) {
    --admin_open_;
    if (answer) {
      pass_on(call, *answer);
      return;
    }
    // Who could look before may look on; changes want a registry anyway.
    const auto known = keys_.usable(call->secret, parts_.now());
    if (known && call->request.method == "GET") {
      pass_on(call, *known);
    } else {
      call->call.fail(error_of(answer.error()));
    }
  });
}

void ControlState::pass_on(const AdminMessage& call, const wire::KeyAnswer& key) {
  if (auto refused = refusal_of(key)) {
    call->call.fail(*refused);
    return;
  }
  call->request.subject = key.subject;
  const bool schedulers = is_schedulers(call->request.path);
  const fabric::LinkId link =
      owner(schedulers ? wire::NodeRole::kScheduler : wire::NodeRole::kRegistry);
  if (link == 0) {
    call->call.fail(owner_away(schedulers ? "The scheduler" : "The registry"));
    return;
  }
  const auto owner = parts_.node.remote<fabric::AdminActor>(link, fabric::kAdminActor);
  self_->request(owner, kAdminTimeout, call->request)
      .then(
          [call](const wire::AdminReply& reply) { call->call.respond(admin_response(reply)); },
          [call](const caf::error& error) { call->call.fail(error_of(fabric::from_caf(error))); });
}

void ControlState::on_used(const Used& used) {
  if (!used.secret) {
    add_usage(used, nullptr);
    return;
  }
  if (const auto key = keys_.usable(*used.secret, parts_.now())) {
    add_usage(used, &*key);
    return;
  }
  ask(*used.secret, [this, used](const base::Result<wire::KeyAnswer>& answer) {
    add_usage(used, answer ? &*answer : nullptr);
  });
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
  usage_.add(row);
}

void ControlState::on_tick() {
  self_->delayed_send(self_, kTick, caf::tick_atom_v);
  send_usage();
  save_usage();
  waiting_.set(usage_.is_empty() ? 0.0 : 1.0);
}

void ControlState::send_usage() {
  const fabric::LinkId link = owner(wire::NodeRole::kRegistry);
  const wire::UsageBatch* batch = sending_ || link == 0 ? nullptr : usage_.batch();
  if (batch == nullptr) return;
  save_usage();  // with its id, before anybody can have counted it
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
          [this](const caf::error&) { sending_ = false; });  // again at the next tick
}

void ControlState::save_usage() {
  if (parts_.usage_file.empty() || saved_ == usage_.changes()) return;
  saved_ = usage_.changes();
  if (const auto saved = usage_.save(parts_.usage_file); !saved) {
    parts_.log.error("usage_not_saved", {{"error", saved.error().to_string()}});
  }
}

}  // namespace conclave::gateway
