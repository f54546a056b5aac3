// The control plane of one process: its actors reach actors of other processes, and are reached,
// through this. One lane (a thread that owns all sockets) serves any number of links. Data calls
// to experts do not pass here: see call_client.hpp.
//
// A link is client -> server over one connection, but messages go both ways: each side publishes
// actors by name, and reaches the other's through proxies that behave as local actors do: requests
// with a deadline, typed errors, monitors that hear of the end.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/wire/common.hpp"

namespace conclave::fabric {

struct NodeSettings {
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t peer_timeout_ms = 3000;
  std::uint32_t reconnect_ms = 100;
  std::uint32_t queue_messages = 1000;
  std::uint64_t queue_bytes = std::uint64_t{256} << 20;
  std::uint32_t requests_max = 65536;

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
  }
};

struct NodeIdentity {
  std::string name;
  wire::NodeRole role = wire::NodeRole::kOperator;
  std::uint64_t incarnation = 0;  // rises with every start of the node
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

/// Any thread, except that callbacks come on the lane's thread and must be short. Errors that a
/// requester sees are caf::error made from base::Error (see caf_error.hpp):
/// kUnavailable (link down, at once, also for requests in flight), kDeadlineExceeded (the CAF
/// request's own timeout, or the fabric's), kOverloaded (a queue is full), kNotFound (no such actor
/// there), or whatever the remote handler answered.
class Node {
 public:
  static base::Result<std::unique_ptr<Node>> create(Context& context, caf::actor_system& system,
                                                    NodeIdentity identity,
                                                    const NodeSettings& settings);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  [[nodiscard]] const NodeIdentity& identity() const;

  /// "tcp://127.0.0.1:0", "ipc:///run/x", "inproc://name". Returns the address with the real port.
  /// kInvalidArgument: malformed, or no keys for an address that needs them; kUnavailable: in use.
  base::Result<std::string> listen(const std::string& address);

  /// Connects and keeps connecting until disconnect(). Returns at once. `server` says whose key the
  /// other side must have.
  base::Result<LinkId> connect(const std::string& address, wire::NodeRole server);
  void disconnect(LinkId link);

  /// Makes a local actor reachable as `name` for peers of these roles (empty: all that may link).
  void publish(std::string name, caf::actor actor, Run run,
               std::span<const wire::NodeRole> roles = {});

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

  /// Says goodbye on all links, flushes for at most `patience`, then everything is down.
  void stop(std::chrono::milliseconds patience);

 private:
  class Impl;
  explicit Node(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::fabric
