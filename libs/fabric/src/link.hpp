// What the lane knows of one link, and of the sockets that links run over.
#pragma once

#include <caf/actor_control_block.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <zmq.hpp>

#include "context_internal.hpp"
#include "outbox.hpp"
#include "pending_table.hpp"

namespace conclave::fabric {

using Time = std::chrono::steady_clock::time_point;

struct Link;

/// A socket that listens: the peers of any number of links come in over it.
struct Server {
  zmq::socket_t socket;
  SocketMonitor monitor;  // none for inproc
  bool inproc = false;
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

  // Of the side that connected. It has one socket for each connection: what is left over of an
  // earlier one cannot be mistaken for the present one. No socket: waiting for `due`.
  std::string address;
  wire::NodeRole server_role = wire::NodeRole::kOperator;
  zmq::socket_t socket;
  SocketMonitor monitor;
  bool connected = false;        // ZeroMQ's handshake is done
  std::uint32_t hellos = 0;      // sent over this socket
  Time due = Time::max();        // when to connect, or to say hello again
  Time give_up = Time::max();    // when to connect anew because no welcome comes
  bool removed = false;          // disconnect() was called

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

  [[nodiscard]] bool up() const { return box != nullptr; }
  [[nodiscard]] bool is_client() const { return server == nullptr; }
};

}  // namespace conclave::fabric
