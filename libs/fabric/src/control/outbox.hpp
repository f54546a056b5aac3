// The way from actors to one peer: what proxies and the lane share. Messages are encoded in the
// sender's thread and queued for the lane.
#pragma once

#include <atomic>
#include <caf/actor_control_block.hpp>
#include <caf/execution_unit.hpp>
#include <caf/message_id.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <variant>
#include <zmq.hpp>

#include "conclave/base/result.hpp"
#include "conclave/fabric/node.hpp"
#include "conclave/wire/message.hpp"
#include "credits.hpp"
#include "lane_queue.hpp"

namespace conclave::fabric {

class DirectEnd;
class Outbox;
struct Link;

/// Envelope and body as ZeroMQ sends them. An empty body is none.
struct Frames {
  zmq::message_t head;
  zmq::message_t body;
};

/// Who waits for the answer of a request.
struct Requester {
  caf::strong_actor_ptr actor;
  caf::message_id response_id;
};

/// Answers a request that failed on this side.
void fail_request(const Requester& requester, base::Error error);

/// One message on its way to the lane.
struct Outgoing {
  std::shared_ptr<Outbox> box;
  wire::FrameKind kind = wire::FrameKind::kCast;
  std::uint64_t request_id = 0;
  Requester requester;  // of a request
  Frames frames;
};

/// The peer does not take what it must take.
struct Overflow {
  std::shared_ptr<Outbox> box;
};

using LaneItem = std::variant<Outgoing, Overflow, std::function<void()>>;

/// What everything of one node shares. Outlives the node where proxies do.
struct NodeCore {
  NodeIdentity identity;
  NodeSettings settings;
  WallClock wall_clock;
  LaneQueue<LaneItem> queue;
  std::atomic<std::uint64_t> next_request{1};
  std::atomic<std::uint64_t> requests{0};  // that wait for an answer

  /// An envelope of this node; without a deadline.
  [[nodiscard]] wire::Envelope envelope(wire::FrameKind kind) const;
};

/// One peer while its link is up; a link that comes up again has a new one. Any thread.
class Outbox : public std::enable_shared_from_this<Outbox> {
 public:
  /// `direct`: the way to a peer in this process; null: over the lane.
  Outbox(std::shared_ptr<NodeCore> core, LinkId link, Link* owner,
         std::shared_ptr<DirectEnd> direct);

  [[nodiscard]] LinkId link() const { return link_; }
  [[nodiscard]] bool open() const { return open_.load(std::memory_order_acquire); }
  /// Nothing goes in from here on.
  void close() { open_.store(false, std::memory_order_release); }

  /// kUnavailable: down; kOverloaded: too many requests, or a full queue; kInvalidArgument: larger
  /// than kMessageBytesMax. Otherwise the lane answers for it.
  /// `unit`, here and below: the one that the caller runs on, if it is an actor.
  base::Status request(std::string_view target, wire::Message message, Requester requester,
                       caf::execution_unit* unit);
  /// A full queue takes the link down.
  void cast(std::string_view target, wire::Message message, caf::execution_unit* unit);
  /// Answers the peer's request: with a message, ErrorBody included, or with monostate. A full
  /// queue takes the link down.
  void reply(std::uint64_t request_id, wire::Message message, caf::execution_unit* unit);

  /// The frames of a message whose size the credits cover; nothing if they do not.
  std::optional<Frames> frames(wire::Envelope envelope, const wire::Message& message);

  /// The lane's: null from when the link went down.
  Link* owner;

 private:
  void overflow();
  void post(Outgoing outgoing);

  const std::shared_ptr<NodeCore> core_;
  const LinkId link_;
  const std::shared_ptr<Credits> credits_;
  const std::shared_ptr<DirectEnd> direct_;
  std::atomic<bool> open_{true};
};

}  // namespace conclave::fabric
