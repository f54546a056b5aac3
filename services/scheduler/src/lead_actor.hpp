// The scheduler's side of the registry's ledger: asks for the lease of whoever leads, reads what is
// kept for it, and hands over what is to be kept. What that means is the scheduler's to say.
#pragma once

#include <caf/typed_actor.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "conclave/fabric/messages.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/telemetry/log.hpp"
#include "leadership.hpp"
#include "registry_list.hpp"

namespace conclave::scheduler {

/// lead -> scheduler: who leads has changed, or what is kept was read.
struct LeadChange {
  bool leads = false;
  bool begins = false;  // it goes by nothing that it knew before
  std::uint64_t term = 0;
  std::string leader;                                    // address; empty: itself, or nobody knows
  std::optional<std::string> kept;                       // read for this beginning
  std::chrono::steady_clock::time_point leased_until{};  // as Leased
};

/// lead -> scheduler: under which term it leads, and until when nobody else can, by what the
/// registry said.
struct Leased {
  std::uint64_t term = 0;
  std::chrono::steady_clock::time_point until;
};

/// scheduler -> lead: a node has followed a leader of this term, which is greater than ours.
struct Outdone {
  std::uint64_t term = 0;
};

/// lead -> scheduler: has what is to be kept changed since this change of it?
struct KeptQuestion {
  std::uint64_t change = 0;
};
struct KeptAnswer {
  std::uint64_t change = 0;
  std::optional<std::string> document;  // nothing: no
};

/// scheduler -> lead: somebody waits until a change is kept.
struct Keep {};
/// lead -> scheduler: the registry keeps all changes up to this one.
struct KeptUntil {
  std::uint64_t change = 0;
};

/// service -> lead, answered when the lease is free: another one may lead.
struct Resign {};

}  // namespace conclave::scheduler

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::LeadChange)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::Leased)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::Outdone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::KeptQuestion)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::KeptAnswer)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::Keep)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::KeptUntil)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(conclave::scheduler::Resign)

namespace conclave::scheduler {

/// What a scheduler's actor answers to its lead.
using LedActor =
    caf::typed_actor<caf::reacts_to<LeadChange>, caf::reacts_to<Leased>, caf::reacts_to<KeptUntil>,
                     caf::replies_to<KeptQuestion>::with<KeptAnswer>>;

using LeadActor =
    caf::typed_actor<caf::reacts_to<caf::tick_atom>, caf::reacts_to<caf::connect_atom>,
                     caf::reacts_to<Outdone>, caf::reacts_to<Keep>,
                     caf::replies_to<Resign>::with<caf::unit_t>>;

struct LeadParts {
  fabric::Node& node;
  RegistryList registries;
  LedActor scheduler;
  Leadership leadership;
  bool elected = false;
  std::chrono::milliseconds lease{};
  telemetry::Logger log;
  std::function<std::chrono::steady_clock::time_point()> now;
};

class LeadState {
 public:
  static constexpr const char* kName = "conclave.scheduler.lead";
  /// Asks so often within a lease: two answers may be late.
  static constexpr int kAsksPerLease = 6;
  /// Who needs no lease does not wait longer than this for what is kept.
  static constexpr std::chrono::seconds kPatience{2};

  LeadState(LeadActor::pointer self, LeadParts parts)
      : self_(self), parts_(std::move(parts)), lead_(parts_.leadership) {}

  LeadActor::behavior_type make_behavior();

 private:
  void beat();
  void ask();
  void heard(const wire::LeaseReply& reply);
  void renewed(std::chrono::steady_clock::time_point asked);
  void outdone(std::uint64_t term);
  void read();
  void was_read(const wire::StateReply& reply);
  void look_for_changes();
  void put(KeptAnswer answer);
  void tell(std::optional<std::string> kept, bool begins);
  caf::result<caf::unit_t> resign();
  [[nodiscard]] fabric::LedgerActor ledger();
  /// Of the registry at this link: the next one is asked if it is away.
  void failed(fabric::LinkId registry, const base::Error& error);

  LeadActor::pointer self_;
  LeadParts parts_;
  Leadership lead_;
  bool asking_ = false;
  bool reading_ = false;
  bool putting_ = false;
  bool is_begun_ = false;    // it leads, and the scheduler was told
  bool is_read_ = false;     // what is kept, in this lead
  bool is_dirty_ = false;    // something is to be kept, for which the lease is wanted
  bool is_awaited_ = false;  // somebody waits until it is kept
  std::chrono::steady_clock::time_point leased_until_{};
  int beats_ = 0;
  std::uint64_t revision_ = 0;  // of what is kept
  std::uint64_t change_ = 0;    // of the scheduler's, that is kept
  std::string problem_;         // said once
};

}  // namespace conclave::scheduler
