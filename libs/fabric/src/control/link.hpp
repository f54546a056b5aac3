// What the lane knows of one link, and of the sockets that links run over.
#pragma once

#include <caf/actor_control_block.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <zmq.hpp>

#include "context_internal.hpp"
#include "outbox.hpp"
#include "pending_table.hpp"

namespace conclave::fabric {

using Time = std::chrono::steady_clock::time_point;

class DirectEnd;
struct LaneAddress;
struct Link;

/// A socket that listens: the peers of any number of links come in over it.
struct Server {
  std::string address;  // with the real port
  zmq::socket_t socket;
  SocketMonitor monitor;  // none for inproc
  bool inproc = false;
  bool direct = false;                           // no socket: peers come through a DirectEnd
  std::unordered_map<std::string, Link*> peers;  // by ZeroMQ's routing id: one a connection
};

/// A request of ours that waits.
struct Waiting {
  Requester requester;
  Time started;
};

/// A request of the peer that an actor works on.
struct Serving {};

struct Link {
  LinkId id = 0;

  // Of the side that connected. A link that went down gets a new socket: what is left over in an
  // old one cannot be mistaken for something new. No socket: waiting for `due`.
  std::string address;
  wire::NodeRole server_role = wire::NodeRole::kOperator;
  zmq::socket_t socket;
  SocketMonitor monitor;
  bool connected = false;      // ZeroMQ's handshake is done
  std::uint32_t hellos = 0;    // sent over this socket
  Time due = Time::max();      // when to connect, or to say hello again
  Time give_up = Time::max();  // when to connect anew because no welcome comes
  bool removed = false;        // disconnect() was called

  // Of the side that was connected to.
  Server* server = nullptr;
  std::string routing_id;

  // While it is up.
  std::shared_ptr<Outbox> box;  // null: down
  NodeIdentity peer;
  caf::strong_actor_ptr reply_proxy;
  Time last_heard;
  Time next_heartbeat;
  PendingTable<Waiting> waiting;
  PendingTable<Serving> serving;

  // Of a link within the process, from the first knock on; it has no socket, and what waits is in
  // there.
  std::shared_ptr<DirectEnd> direct;
  std::shared_ptr<const LaneAddress> direct_peer;  // while it is up

  [[nodiscard]] bool up() const { return box != nullptr; }
  [[nodiscard]] bool is_client() const { return server == nullptr; }
};

/// A socket for a link that connects: made, set up, connecting; none as long as the address of its
/// host's name is not known. Any one thread.
/// Errors of Context::Internal::configure_client; kInvalidArgument: a malformed address;
/// kUnavailable: the system gives no socket.
base::Status open_socket(Context::Internal& context, const NodeSettings& settings, Link& link);
void close_socket(Link& link, std::chrono::milliseconds linger);

/// A socket that listens. Errors as open_socket; kUnavailable also: the address is in use.
base::Result<std::unique_ptr<Server>> open_server(Context::Internal& context,
                                                  const NodeSettings& settings, wire::NodeRole own,
                                                  const std::string& address);
/// Its address can be used again when this returns, but for a system that hangs. `peers` of it were
/// told goodbye: they get a moment of `linger` to read it and what came before.
void close_server(Server& server, std::size_t peers, std::chrono::milliseconds linger);

}  // namespace conclave::fabric
