#include "lead_actor.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <utility>

#include "conclave/fabric/caf_error.hpp"

namespace conclave::scheduler {

namespace {

// A row's transaction; while PostgreSQL is away the registry tries for a second.
constexpr std::chrono::seconds kTimeout{3};

}  // namespace

LeadActor::behavior_type LeadState::make_behavior() {
  self_->set_default_handler(caf::drop);
  self_->send(self_, caf::tick_atom_v);
  return {[this](caf::tick_atom) {
            self_->delayed_send(self_, parts_.lease / kAsksPerLease, caf::tick_atom_v);
            beat();
          },
          [this](caf::connect_atom) { beat(); }, [this](const Outdone& by) { outdone(by.term); },
          [this](const Keep&) {
            is_awaited_ = true;
            if (is_begun_) look_for_changes();
          },
          [this](const Resign&) { return resign(); }};
}

fabric::LedgerActor LeadState::ledger() {
  return parts_.node.remote<fabric::LedgerActor>(parts_.registries.link(), fabric::kLedgerActor);
}

void LeadState::failed(fabric::LinkId registry, const base::Error& error) {
  if (error.code == base::ErrorCode::kUnavailable ||
      error.code == base::ErrorCode::kDeadlineExceeded) {
    parts_.registries.silent(registry);
  }
}

void LeadState::beat() {
  ++beats_;
  // Who is not elected wants the lease only for its token.
  if (parts_.elected || is_dirty_) ask();
  if (lead_.leads() && !is_read_) read();
  if (is_begun_) look_for_changes();
}

void LeadState::ask() {
  if (asking_) return;
  asking_ = true;
  const auto ttl = static_cast<std::uint32_t>(parts_.lease.count());
  self_->request(ledger(), kTimeout, wire::LeaseRequest{kLeadLease, lead_.holder(), ttl})
      .then(
          [this, asked = parts_.now()](const wire::LeaseReply& reply) {
            asking_ = false;
            heard(reply);
            renewed(asked);
            // Without a token it would only be found again what cannot be put.
            if (is_awaited_ && is_begun_ && lead_.token() != 0) look_for_changes();
          },
          [this, link = parts_.registries.link()](const caf::error& error) {
            asking_ = false;
            failed(link, fabric::from_caf(error));
            const std::string reason = fabric::from_caf(error).message;
            if (std::exchange(problem_, reason) == reason) return;
            parts_.log.info("lease_not_asked", {{"reason", reason}, {"leads", lead_.leads()}});
          });
}

void LeadState::heard(const wire::LeaseReply& reply) {
  problem_.clear();
  switch (lead_.heard(reply)) {
    case Leadership::Change::kNone:
      return;
    case Leadership::Change::kBegan:
      parts_.log.info("lead_begins", {{"term", lead_.term()}});
      is_begun_ = is_read_ = false;
      read();
      return;
    case Leadership::Change::kEnded:
      parts_.log.warn("lead_ends", {{"leader", lead_.leader()}, {"term", lead_.term()}});
      is_begun_ = false;
      tell({}, false);
      return;
    case Leadership::Change::kFollowed:
      parts_.log.info("stands_by", {{"leader", lead_.leader()}, {"term", lead_.term()}});
      tell({}, false);
      return;
  }
}

// The registry counts from when it was asked, or later.
void LeadState::renewed(std::chrono::steady_clock::time_point asked) {
  if (lead_.token() == 0) return;
  leased_until_ = asked + parts_.lease;
  if (is_begun_) self_->send(parts_.scheduler, Leased{lead_.term(), leased_until_});
}

// The registry's word goes before that of nodes, which may remember terms of another database.
void LeadState::outdone(std::uint64_t term) {
  if (parts_.now() < leased_until_ || lead_.outdone(term) != Leadership::Change::kEnded) return;
  parts_.log.warn("lead_ends", {{"leader", lead_.leader()}, {"term", lead_.term()}});
  is_begun_ = false;
  tell({}, false);
}

void LeadState::read() {
  if (reading_) return;
  reading_ = true;
  self_->request(ledger(), kTimeout, wire::StateRequest{kLeadLease, 0, std::nullopt, 0})
      .then(
          [this](const wire::StateReply& reply) {
            reading_ = false;
            was_read(reply);
          },
          [this, link = parts_.registries.link()](const caf::error& error) {
            reading_ = false;
            failed(link, fabric::from_caf(error));
            const auto waited = beats_ * (parts_.lease / kAsksPerLease);
            if (parts_.elected || is_begun_ || waited < kPatience) return;
            parts_.log.warn("kept_not_read", {{"reason", fabric::from_caf(error).message}});
            is_begun_ = true;
            tell({}, true);
          });
}

// Who began without it, and who only wants the revision, have been told what leads.
void LeadState::was_read(const wire::StateReply& reply) {
  if (!lead_.leads()) return;
  revision_ = reply.revision;
  if (std::exchange(is_read_, true)) return;
  const bool begins = !std::exchange(is_begun_, true);
  if (begins) change_ = 0;
  tell(reply.data, begins);
  if (is_awaited_) look_for_changes();
}

void LeadState::tell(std::optional<std::string> kept, bool begins) {
  self_->send(parts_.scheduler, LeadChange{lead_.leads(), begins, lead_.term(), lead_.leader(),
                                           std::move(kept), leased_until_});
}

void LeadState::look_for_changes() {
  if (putting_ || !is_read_) return;
  putting_ = true;
  is_awaited_ = false;
  self_->request(parts_.scheduler, kTimeout, KeptQuestion{change_})
      .then(
          [this](KeptAnswer& answer) {
            putting_ = false;
            is_dirty_ = answer.document.has_value();
            if (!is_dirty_) return;
            if (lead_.token() != 0) return put(std::move(answer));
            is_awaited_ = true;
            ask();
          },
          [this](const caf::error&) { putting_ = false; });
}

void LeadState::put(KeptAnswer answer) {
  putting_ = true;
  const std::uint64_t change = answer.change;
  self_
      ->request(
          ledger(), kTimeout,
          wire::StateRequest{kLeadLease, lead_.token(), std::move(answer.document), revision_})
      .then(
          [this, change](const wire::StateReply& reply) {
            putting_ = false;
            is_dirty_ = false;
            revision_ = reply.revision;
            change_ = change;
            self_->send(parts_.scheduler, KeptUntil{change});
            if (is_awaited_) look_for_changes();
          },
          [this, link = parts_.registries.link()](const caf::error& refused) {
            putting_ = false;
            const base::Error error = fabric::from_caf(refused);
            failed(link, error);
            if (error.code != base::ErrorCode::kFailedPrecondition) return;
            // A lease that is gone shows with the next beat. A put whose answer got lost was made:
            // the revision says so.
            parts_.log.info("kept_not_put", {{"reason", error.message}});
            if (lead_.leads()) read();
          });
}

caf::result<caf::unit_t> LeadState::resign() {
  const bool had_lease = lead_.token() != 0;
  is_begun_ = false;
  if (lead_.resign() == Leadership::Change::kEnded) tell({}, false);
  if (!had_lease) return caf::unit;
  auto promise = self_->make_response_promise<caf::unit_t>();
  self_->request(ledger(), kTimeout, wire::LeaseRequest{kLeadLease, lead_.holder(), 0})
      .then([promise](const wire::LeaseReply&) mutable { promise.deliver(caf::unit); },
            [promise](const caf::error&) mutable { promise.deliver(caf::unit); });
  return promise;
}

}  // namespace conclave::scheduler
