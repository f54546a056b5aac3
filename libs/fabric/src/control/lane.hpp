// The one thread of a node: it owns the sockets, speaks the link protocol, and matches answers with
// requests. lane.cpp is the loop and the sockets, lane_links.cpp how links come and go,
// lane_direct.cpp those without a socket, lane_messages.cpp what goes over them.
//
// The link protocol. A client says Hello when it has connected, and again until the server answers
// Welcome; both name their node, role and incarnation. From then on either side sends requests,
// casts, answers and a heartbeat every heartbeat_ms. A link goes down when the peer says Goodbye,
// is silent for peer_timeout_ms, disconnects, cannot be sent to, does not take what it must take,
// or says Hello again over another connection. A server tells a peer that has no link so with
// Goodbye, and refuses a Hello with an Error (request id 0) that says why. What is malformed, of
// another version, or for nobody is dropped and counted; the link survives it. A frame beyond
// SocketLimits::frame_bytes makes ZeroMQ drop the connection.
#pragma once

#include <caf/actor_system.hpp>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "context_internal.hpp"
#include "direct_end.hpp"
#include "directory.hpp"
#include "exports.hpp"
#include "inline_unit.hpp"
#include "link.hpp"
#include "node_metrics.hpp"

namespace conclave::fabric {

/// Members are called on the lane's thread, if nothing else is said.
class Lane {
 public:
  using Listener = std::function<void(const LinkEvent&)>;

  Lane(Context::Internal& context, std::shared_ptr<NodeCore> core, caf::actor_system& system,
       Directory& directory, Exports& exports);

  /// Serves until begin_stop() has run its course.
  void run();

  void add_server(std::unique_ptr<Server> server);
  void add_client(std::unique_ptr<Link> link);
  void remove(LinkId id);
  /// Which actors run here has changed. Any thread.
  void refresh_inline();
  void add_listener(Listener listener);
  void begin_stop(Time deadline);

  // What a lane of this process says to another one about links without a socket. An end that
  // belongs to no link of the lane any more is told so with a goodbye, or ignored.
  struct Knock {
    std::string address;  // of the server
    NodeIdentity from;
    LinkId link = 0;                 // at the client
    std::shared_ptr<DirectEnd> end;  // the server's
    LaneAddress client;
  };
  void on_knock(const Knock& knock);
  void on_direct_welcome(const Knock& knock, const NodeIdentity& server, const LaneAddress& lane);
  void on_direct_refusal(const Knock& knock, const base::Error& error);
  void on_direct_goodbye(const std::shared_ptr<DirectEnd>& end);
  /// More came in before the link was up than may wait.
  void overflowed(const std::shared_ptr<DirectEnd>& end);

 private:
  enum class Sent { kYes, kFull, kGone };

  // -- lane.cpp
  void take_posts();
  void poll(bool wait);
  void collect_poll_items();
  void read_server(Server& server);
  void read_client(Link& link);
  void read_server_monitor(Server& server);
  void read_client_monitor(Link& link);
  bool receive(zmq::socket_t& socket);
  void check_timers();
  void check_link(Link& link, Time& next);
  void bury(Link& link);
  [[nodiscard]] bool may_leave() const;
  void leave();
  /// A timer that is due at `time` must not be missed.
  void wake_by(Time time) { next_check_ = std::min(next_check_, time); }

  // -- lane_links.cpp
  void open_client(Link& link);
  void greet_when_connected(Link& link);
  void say_hello(Link& link);
  void on_hello(Server& server, const std::string& routing_id, const wire::Envelope& envelope,
                std::span<const std::byte> body);
  base::Result<NodeIdentity> read_hello(const wire::Envelope& envelope,
                                        std::span<const std::byte> body) const;
  /// `proved`: the role that the peer's key has.
  base::Status admit(std::optional<wire::NodeRole> proved, const NodeIdentity& peer);
  void take_down_known(const NodeIdentity& peer);
  Link& add_link(Server& server, const std::string& routing_id, const NodeIdentity& peer);
  void on_welcome(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body);
  void on_not_welcome(Link& link, std::span<const std::byte> body);
  void turn_away(Server& server, std::string_view routing_id, base::Error error);
  void take_up(Link& link, NodeIdentity peer);
  void take_down(Link& link, std::string_view reason);
  void tell(const LinkEvent& event);

  // -- lane_direct.cpp
  void knock(Link& link);
  std::vector<Waiting> part(Link& link);
  void check_direct(Link& link);
  Link* link_of_knock(const Knock& knock);
  Link* link_of_end(const std::shared_ptr<DirectEnd>& end);
  [[nodiscard]] LaneAddress own_address() { return {core_, this}; }
  [[nodiscard]] DirectEnd::Node direct_node();

  // -- lane_messages.cpp
  // Work on frames_.
  void on_server_frames(Server& server);
  void on_client_frames(Link& link);
  /// Nothing: refused, and counted.
  std::optional<wire::Envelope> open_envelope(std::span<zmq::message_t> frames,
                                              std::string_view peer);
  void on_linked(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body);
  void on_request(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body);
  void on_cast(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body);
  void on_answer(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body);
  void refuse_request(Link& link, std::uint64_t request_id, base::Error error);
  void transmit(Outgoing outgoing);
  void finish(const Waiting& waiting);
  /// Takes the link down if it cannot be sent to.
  void send(Link& link, wire::FrameKind kind, Frames frames);
  void send_plain(Link& link, const wire::Envelope& envelope, const wire::Message& message);
  Sent send_frames(zmq::socket_t& socket, std::string_view routing_id, Frames frames);
  [[nodiscard]] Frames plain_frames(wire::Envelope envelope, const wire::Message& message) const;
  [[nodiscard]] wire::Message own_hello() const;
  [[nodiscard]] std::string peer_of(zmq::message_t& frame) const;

  Context::Internal& context_;
  const std::shared_ptr<NodeCore> core_;
  caf::actor_system& system_;
  Directory& directory_;
  Exports& exports_;
  NodeMetrics metrics_;
  InlineUnit unit_;
  std::vector<Listener> listeners_;

  std::vector<std::unique_ptr<Server>> servers_;
  std::map<LinkId, std::unique_ptr<Link>> links_;
  std::map<std::pair<wire::NodeRole, std::string>, Link*> nodes_;  // that connected to us
  std::vector<std::unique_ptr<Link>> buried_;  // freed when nothing on the stack refers to them

  std::vector<LaneItem> posts_;
  std::vector<zmq::message_t> frames_;  // of the message being read
  bool too_many_frames_ = false;
  std::vector<zmq::pollitem_t> items_;
  std::vector<std::pair<Server*, Link*>> owners_;  // of items_[1..]
  bool sockets_changed_ = true;

  Time now_{};
  Time next_check_ = Time::max();
  /// What a closed connection may take to send its goodbye.
  std::chrono::milliseconds linger_{200};
  bool stopping_ = false;
  Time stop_by_ = Time::max();
};

}  // namespace conclave::fabric
