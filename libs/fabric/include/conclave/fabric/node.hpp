// The control plane of one process: its actors reach actors of other processes, and are reached,
// through this. One lane (a thread that owns all sockets) serves any number of links. Data calls
// to experts do not pass here: see call_client.hpp.
//
// A link is client -> server over one connection, but messages go both ways: each side publishes
// actors by name, and reaches the other's through proxies that behave as local actors do: requests
// with a deadline, typed errors, monitors that hear of the end.
//
// What is sent arrives in order and once, or the link goes down: a cast or an answer for which a
// queue has no room takes the link down instead of being lost in silence. Requests are refused.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/typed_actor.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "conclave/base/result.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/wire/common.hpp"
#include "conclave/wire/message.hpp"

namespace conclave::fabric {

struct NodeSettings {
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t peer_timeout_ms = 3000;
  std::uint32_t reconnect_ms = 100;
  // Memory is bounded by the bytes; this bounds what small messages cost beside them.
  std::uint32_t queue_messages = 16384;
  // Four times the largest message.
  std::uint64_t queue_bytes = std::uint64_t{256} << 20;
  std::uint32_t requests_max = 65536;
  // A backstop for answers that never come: above the longest honest request, which is to register
  // a model (its file is read as a whole). Callers who know better use a shorter one of CAF.
  std::uint32_t request_timeout_ms = 600'000;

  /// See config::bind.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("heartbeat-ms", heartbeat_ms, 10u, 60000u, "How often a link says that it lives");
    v("peer-timeout-ms", peer_timeout_ms, 30u, 600000u, "Silence after which a peer is down");
    v("reconnect-ms", reconnect_ms, 1u, 60000u, "Wait before connecting again");
    v("queue-messages", queue_messages, 1u, 1u << 20, "Most messages that wait for one peer");
    v("queue-bytes", queue_bytes, std::uint64_t{1} << 20, std::uint64_t{1} << 34,
      "Most bytes that wait for one peer");
    v("requests-max", requests_max, 1u, 1u << 20, "Most requests that wait for an answer");
    v("request-timeout-ms", request_timeout_ms, 10u, 86'400'000u,
      "After which a request that nobody answered has failed");
  }
};

struct NodeIdentity {
  std::string name;
  wire::NodeRole role = wire::NodeRole::kOperator;
  std::uint64_t incarnation = 0;  // rises with every start of the node

  friend bool operator==(const NodeIdentity&, const NodeIdentity&) = default;
};

using LinkId = std::uint64_t;  // 0: none; never used again in a process

/// A link came up or went down. Up again after a break is a new `up` with the same id if this side
/// is the client, a new id if it is the server.
struct LinkEvent {
  LinkId link = 0;
  bool up = false;
  NodeIdentity peer;
  std::string reason;  // of a `down`: "goodbye", "silent for 3000 ms", "disconnected", ..
};

/// Whether an actor's messages run on the lane's thread: only for handlers that are short.
enum class Run { kScheduled, kInline };

/// The wall clock, for the deadlines that requests carry to other hosts.
using WallClock = std::function<std::chrono::system_clock::time_point()>;

/// Wire types as bits: 1 << wire::kTypeOf<T>.
using MessageTypes = std::uint64_t;
inline constexpr MessageTypes kAllMessageTypes = ~MessageTypes{0};
static_assert(wire::kMessageTypes <= 64);

namespace detail {
template <class T, class Variant>
struct IsAlternative;
template <class T, class... Ts>
struct IsAlternative<T, std::variant<Ts...>> : std::bool_constant<(std::is_same_v<T, Ts> || ...)> {
};
/// The wire types that a signature of an actor takes: one, or none if it is for local use.
template <class Signature>
struct InputOf {
  static constexpr MessageTypes kBits = 0;
};
template <class T, class Output>
requires IsAlternative<T, wire::Message>::value struct InputOf<
    caf::typed_mpi<caf::detail::type_list<T>, Output>> {
  static constexpr MessageTypes kBits = MessageTypes{1} << wire::kTypeOf<T>;
};
}  // namespace detail

/// Any thread, except that callbacks come on the lane's thread and must be short. Errors that a
/// requester sees are caf::error made from base::Error (see caf_error.hpp):
/// kUnavailable (link down, at once, also for requests in flight), kDeadlineExceeded (the CAF
/// request's own timeout, or the fabric's), kOverloaded (a queue is full), kNotFound (no such actor
/// there), kUnimplemented (it does not take such messages), or whatever the remote handler
/// answered.
class Node {
 public:
  /// `context` and `system` must outlive the node. Without `wall_clock` requests carry no deadline
  /// to the other side, and those that arrive are not checked. kInvalidArgument: an unusable name,
  /// heartbeats that are rarer than the time-out, or keys of another role.
  static base::Result<std::unique_ptr<Node>> create(Context& context, caf::actor_system& system,
                                                    NodeIdentity identity,
                                                    const NodeSettings& settings,
                                                    WallClock wall_clock = {});
  /// As stop(0 ms).
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  [[nodiscard]] const NodeIdentity& identity() const;

  /// "tcp://127.0.0.1:0", "ipc:///run/x", "inproc://name", "direct://name" (inside this process,
  /// and nothing is encoded: see the README). Returns the address with the real port.
  /// kInvalidArgument: malformed, or no keys for an address that needs them; kUnavailable: in use;
  /// kFailedPrecondition: stopped.
  base::Result<std::string> listen(const std::string& address);

  /// Connects and keeps connecting until disconnect(). Returns at once. `server` says whose key the
  /// other side must have. kInvalidArgument: malformed, or no keys; kNotFound: that key is not in
  /// the ring; kFailedPrecondition: stopped.
  base::Result<LinkId> connect(const std::string& address, wire::NodeRole server);
  /// Says goodbye. The link of a client is gone then; a peer that connected may come back.
  void disconnect(LinkId link);

  /// Makes a local actor reachable as `name` for peers of these roles (empty: all that may link).
  /// It is kept alive until stop() or until another takes the name.
  void publish(std::string name, caf::actor actor, Run run,
               std::span<const wire::NodeRole> roles = {}, MessageTypes types = kAllMessageTypes);
  /// The same; messages that the actor does not handle are refused before they reach it.
  template <class... Signatures>
  void publish(std::string name, const caf::typed_actor<Signatures...>& actor, Run run,
               std::span<const wire::NodeRole> roles = {}) {
    publish(std::move(name), caf::actor_cast<caf::actor>(actor), run, roles,
            (detail::InputOf<Signatures>::kBits | ... | MessageTypes{0}));
  }

  /// Every call adds a listener; it first hears of the links that are up.
  void on_link(std::function<void(const LinkEvent&)> listener);

  /// The newest link to the node of this name that is up; 0: none.
  [[nodiscard]] LinkId find(std::string_view node) const;

  /// A proxy for the actor `name` at the other end. It lives until the link goes down (monitors get
  /// a down message, requests in flight kUnavailable); ask again after the next `up`. While the
  /// link is down the proxy is dead on arrival: requests to it fail at once.
  [[nodiscard]] caf::actor remote(LinkId link, std::string_view name);
  template <class Handle>
  [[nodiscard]] Handle remote(LinkId link, std::string_view name) {
    return caf::actor_cast<Handle>(remote(link, name));
  }

  /// Takes no new requests, waits until those in work are answered, says goodbye on all links and
  /// lets ZeroMQ flush; all of that takes at most `patience`, and the flushing may end after the
  /// return, with the context. Then everything is down, for good: `down` events have come, requests
  /// in flight have failed, published actors and listeners are released, and the addresses can be
  /// used again. Not from a callback.
  void stop(std::chrono::milliseconds patience);

 private:
  class Impl;
  explicit Node(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The link over which the message came that an actor is handling (self->current_sender()); 0 if
/// its sender is a local actor. The sender can be monitored: it goes down with the link.
LinkId link_of(const caf::strong_actor_ptr& sender);

}  // namespace conclave::fabric
