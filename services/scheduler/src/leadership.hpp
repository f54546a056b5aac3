// Which of several schedulers leads: by a lease that the registry lends, whose fencing token is the
// leader's term. Knows no actor, no socket and no clock: the registry's answers go in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "conclave/wire/ledger.hpp"

namespace conclave::scheduler {

/// The lease that schedulers compete for, and so the name of what is kept for its holder.
inline constexpr const char* kLeadLease = "scheduler";

/// One life of a scheduler, as the registry names it: "scheduler-1/1750000000@tcp://10.0.0.7:7600".
std::string holder_name(std::string_view node, std::uint64_t incarnation, std::string_view address);

/// One thread.
///
/// Who leads goes on while the registry is away: nobody else can have the lease then, but for a
/// registry that others reach. Nodes ignore a leader of a lower term than they have seen, so that
/// such a one has no effect; it hears of its end with the registry's next answer, or from any node.
class Leadership {
 public:
  /// Not `elected`: there is one scheduler, which leads with or without a lease.
  Leadership(std::string holder, bool elected)
      : holder_(std::move(holder)), elected_(elected), leads_(!elected) {}

  enum class Change : std::uint8_t {
    kNone,
    kBegan,     // it leads, and must not go by what it knew before
    kEnded,     // another one leads
    kFollowed,  // as before it does not lead; who does has changed
  };
  Change heard(const wire::LeaseReply& reply);
  /// Its own lease has run out, and a node has followed a leader of this term. kEnded if that is a
  /// greater one than its own, else kNone.
  Change outdone(std::uint64_t term);
  /// It gives the lease back, or is about to. kEnded or kNone.
  Change resign();

  [[nodiscard]] bool leads() const { return leads_; }
  [[nodiscard]] const std::string& holder() const { return holder_; }
  /// Of its own lease; 0: it has none.
  [[nodiscard]] std::uint64_t token() const { return token_; }
  /// Of the scheduler that leads, as far as is known; 0 where nobody is elected.
  [[nodiscard]] std::uint64_t term() const { return elected_ ? term_ : 0; }
  /// Address of the one that leads; empty: it does itself, or nobody knows.
  [[nodiscard]] const std::string& leader() const { return leader_; }

 private:
  std::string holder_;
  bool elected_;
  bool leads_;
  bool resigned_ = false;
  std::uint64_t token_ = 0;
  std::uint64_t term_ = 0;
  std::string leader_;
};

}  // namespace conclave::scheduler
