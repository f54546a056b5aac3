// One end of a link within a process (direct://name). Messages go from the sender's thread straight
// into the mailbox of the peer's actor: no lane is woken, nothing is encoded. The lanes only bring
// such links up and down.
#pragma once

#include <caf/execution_unit.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "direct_nodes.hpp"
#include "exports.hpp"
#include "link.hpp"
#include "node_metrics.hpp"

namespace conclave::fabric {

/// Owned by its lane's Link and by the Outbox of it; knows the other end, whose lane may be another
/// one. Keeps order: what one thread sends arrives in that order.
class DirectEnd : public std::enable_shared_from_this<DirectEnd> {
 public:
  /// What an end needs of its node, which outlives the end's close().
  struct Node {
    LaneAddress lane;
    Exports* exports = nullptr;
    Context::Internal* context = nullptr;
    NodeMetrics* metrics = nullptr;
  };
  using Ends = std::pair<std::shared_ptr<DirectEnd>, std::shared_ptr<DirectEnd>>;

  /// `first` belongs to this node; `second` is for the other, which says attach().
  static Ends make(Node first);

  // -- The lane's.
  void attach(Node node);
  /// Messages of this peer come in from here on, first those that came before.
  void open(const NodeIdentity& peer, caf::strong_actor_ptr reply_proxy);
  /// Nothing comes in or goes out any more. Returns the requests that nobody will answer.
  [[nodiscard]] std::vector<Waiting> close();
  /// Refuses new requests; the lane is woken when those in work are answered.
  void begin_stop();
  [[nodiscard]] bool serves() const;
  /// Takes the requests that have waited too long, and forgets those that nobody here answered.
  [[nodiscard]] std::vector<Waiting> expire(Time now);
  [[nodiscard]] std::shared_ptr<DirectEnd> other() const { return other_.lock(); }

  // -- Any thread. `unit` is the one that the caller runs on, if it is an actor.
  /// kUnavailable: closed. All else is told to the requester.
  base::Status request(std::uint64_t id, std::string_view target, wire::Message message,
                       Requester requester, caf::execution_unit* unit);
  void cast(std::string_view target, wire::Message message, caf::execution_unit* unit);
  /// Answers the peer's request, if it waits still.
  void reply(std::uint64_t id, wire::Message message, caf::execution_unit* unit);

 private:
  enum class State { kNew, kOpen, kClosed };

  /// A message of the other end.
  struct Incoming {
    wire::FrameKind kind = wire::FrameKind::kCast;
    std::uint64_t id = 0;  // of a request and its answer
    std::string target;
    wire::Message message;
  };

  void receive(Incoming incoming, caf::execution_unit* unit);
  void deliver(Incoming incoming, caf::execution_unit* unit);
  void serve(Incoming incoming, caf::execution_unit* unit);
  void finish(Incoming incoming, caf::execution_unit* unit);
  base::Result<Export> admit(const Incoming& incoming);

  std::weak_ptr<DirectEnd> other_;  // set before anybody else knows this end

  mutable std::mutex mutex_;  // guards what follows; never held while an actor gets a message
  State state_ = State::kNew;
  bool stopping_ = false;
  Node node_;
  NodeIdentity peer_;
  caf::strong_actor_ptr reply_proxy_;
  std::vector<Incoming> early_;  // what came before open()
  PendingTable<Waiting> waiting_;
  PendingTable<Serving> serving_;
};

}  // namespace conclave::fabric
