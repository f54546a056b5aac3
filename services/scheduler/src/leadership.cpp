#include "leadership.hpp"

#include <utility>

namespace conclave::scheduler {

std::string holder_name(std::string_view node, std::uint64_t incarnation,
                        std::string_view address) {
  return std::string(node) + "/" + std::to_string(incarnation) + "@" + std::string(address);
}

Leadership::Change Leadership::heard(const wire::LeaseReply& reply) {
  if (reply.holder == holder_) {
    if (resigned_) return Change::kNone;
    // A token that rose by one is the same lease, which lapsed and which nobody took; by more, and
    // somebody led meanwhile.
    const bool was_interrupted = elected_ && token_ != 0 && reply.token > token_ + 1;
    const bool began = !leads_ || was_interrupted;
    token_ = term_ = reply.token;
    leads_ = true;
    leader_.clear();
    return began ? Change::kBegan : Change::kNone;
  }
  token_ = 0;
  if (!elected_ || reply.holder.empty()) return Change::kNone;
  term_ = reply.token;
  const std::string former =
      std::exchange(leader_, reply.holder.substr(reply.holder.find('@') + 1));
  if (std::exchange(leads_, false)) return Change::kEnded;
  return former != leader_ ? Change::kFollowed : Change::kNone;
}

Leadership::Change Leadership::outdone(std::uint64_t term) {
  if (!elected_ || !leads_ || term <= term_) return Change::kNone;
  leads_ = false;
  token_ = 0;
  term_ = term;
  return Change::kEnded;
}

Leadership::Change Leadership::resign() {
  resigned_ = true;
  token_ = 0;
  return std::exchange(leads_, false) ? Change::kEnded : Change::kNone;
}

}  // namespace conclave::scheduler
