// How links come and go.
#include <algorithm>
#include <caf/all.hpp>
#include <chrono>
#include <utility>

#include "conclave/wire/limits.hpp"
#include "lane.hpp"
#include "proxies.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;
using std::chrono::milliseconds;
using wire::FrameKind;

namespace {

/// Links that a node takes from others: a whole fleet, as every node may watch a scheduler.
constexpr std::size_t kPeersMax = wire::kNodesMax;
/// Wait before another try when the system gave no socket.
constexpr milliseconds kNoSocketWait{1000};

}  // namespace

// ---- the side that connects ----

void Lane::open_client(Link& link) {
  if (is_direct(link.address)) return knock(link);
  link.hellos = 0;
  link.give_up = Time::max();
  sockets_changed_ = true;
  const auto opened = open_socket(context_, core_->settings, link);
  if (opened) return greet_when_connected(link);
  context_.log().error("no_socket", {{"peer", link.address}, {"error", opened.error().message}});
  link.due = now_ + kNoSocketWait;
  wake_by(link.due);
}

void Lane::greet_when_connected(Link& link) {
  if (is_direct(link.address)) return knock(link);
  if (!link.socket) {  // its name is being looked up
    link.due = now_ + milliseconds(core_->settings.reconnect_ms);
    return wake_by(link.due);
  }
  link.due = Time::max();
  if (HostNames::is_name(link.address)) {  // which may mean another host by then
    link.give_up = now_ + milliseconds(core_->settings.peer_timeout_ms);
    wake_by(link.give_up);
  }
  // Nobody reports when a server of this process binds; a first hello waits for it in the pipe.
  link.connected = is_inproc(link.address);
  if (link.connected) say_hello(link);
}

void Lane::say_hello(Link& link) {
  if (!link.connected || link.up()) return;
  const auto& self = core_->identity;
  const auto sent = send_frames(link.socket, {},
                                plain_frames(core_->envelope(FrameKind::kHello),
                                             wire::Hello{self.name, self.role, self.incarnation}));
  if (sent == Sent::kYes) {
    metrics_.sent(FrameKind::kHello, 0);
  } else if (is_inproc(link.address)) {
    // The server that was there has closed; within a process ZeroMQ does not connect anew.
    close_socket(link, milliseconds{0});
    sockets_changed_ = true;
    link.due = now_ + milliseconds(core_->settings.reconnect_ms);
    return wake_by(link.due);
  }
  const milliseconds timeout(core_->settings.peer_timeout_ms);
  const milliseconds wait(std::uint64_t{core_->settings.reconnect_ms}
                          << std::min(link.hellos, 16u));
  link.due = now_ + std::min(wait, timeout);
  if (link.hellos++ == 0 && !is_inproc(link.address)) link.give_up = now_ + timeout;
  wake_by(std::min(link.due, link.give_up));
}

void Lane::on_welcome(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body) {
  auto peer = read_hello(envelope, body);
  if (!peer) return context_.refused(Refusal::kMalformed, link.address, peer.error().message);
  if (peer->role != link.server_role) {
    context_.refused(Refusal::kWrongRole, link.address, "the server is another role's");
    return;
  }
  if (!link.up()) return take_up(link, std::move(*peer));
  link.last_heard = now_;  // the answer to a hello that was said twice
}

void Lane::on_not_welcome(Link& link, std::span<const std::byte> body) {
  const auto message = wire::decode(wire::kTypeOf<wire::ErrorBody>, body);
  const auto* error = message ? std::get_if<wire::ErrorBody>(&*message) : nullptr;
  context_.turned_away(link.address, error == nullptr ? "" : error->error.message);
  // It may be an earlier start of this node that is still linked: until it has timed out.
  link.due = now_ + milliseconds(core_->settings.peer_timeout_ms);
  link.give_up = Time::max();
  wake_by(link.due);
}

// ---- the side that is connected to ----

base::Result<NodeIdentity> Lane::read_hello(const wire::Envelope& envelope,
                                            std::span<const std::byte> body) const {
  if (envelope.type != wire::kTypeOf<wire::Hello>) {
    return fail(ErrorCode::kCorruptData, "a hello without its body");
  }
  CONCLAVE_TRY(wire::Message message, wire::decode(envelope.type, body));
  auto& hello = std::get<wire::Hello>(message);
  if (hello.node.empty() || hello.incarnation != envelope.incarnation) {
    return fail(ErrorCode::kCorruptData, "a hello that contradicts itself");
  }
  return NodeIdentity{std::move(hello.node), hello.role, hello.incarnation};
}

base::Status Lane::admit(std::optional<wire::NodeRole> proved, const NodeIdentity& peer) {
  const auto clients = clients_of(core_->identity.role);
  const bool admitted = std::find(clients.begin(), clients.end(), peer.role) != clients.end();
  if (proved != peer.role || !admitted) {
    context_.refused(Refusal::kWrongRole, peer.name,
                     "says to be a " + std::string(to_string(peer.role)));
    return fail(ErrorCode::kInvalidArgument, "this key is not one of that role");
  }
  const auto known = nodes_.find({peer.role, peer.name});
  if (known != nodes_.end() && known->second->peer.incarnation > peer.incarnation) {
    context_.refused(Refusal::kStale, peer.name, "an earlier start than the one that is linked");
    return fail(ErrorCode::kFailedPrecondition, "a later start of this node is linked");
  }
  if (stopping_) return fail(ErrorCode::kUnavailable, "this node is stopping");
  if (nodes_.size() >= kPeersMax) {
    context_.refused(Refusal::kOverloaded, peer.name, "too many links");
    return fail(ErrorCode::kOverloaded, "too many nodes are linked");
  }
  return {};
}

void Lane::on_hello(Server& server, const std::string& routing_id, const wire::Envelope& envelope,
                    std::span<const std::byte> body) {
  const auto present = server.peers.find(routing_id);
  auto peer = read_hello(envelope, body);
  if (!peer) {
    context_.refused(Refusal::kMalformed, peer_of(frames_[1]), peer.error().message);
    return;
  }
  if (present != server.peers.end() && present->second->peer == *peer) {
    present->second->last_heard = now_;
    send_plain(*present->second, core_->envelope(FrameKind::kWelcome), own_hello());
    return;
  }
  const auto proved = server.inproc ? std::optional(peer->role) : context_.sender_role(frames_[1]);
  if (auto admitted = admit(proved, *peer); !admitted) {
    return turn_away(server, routing_id, std::move(admitted).error());
  }
  if (present != server.peers.end()) take_down(*present->second, "says to be another");
  take_down_known(*peer);
  Link& added = add_link(server, routing_id, *peer);
  // Before what listeners may send when they hear of it.
  const auto sent = send_frames(server.socket, routing_id,
                                plain_frames(core_->envelope(FrameKind::kWelcome), own_hello()));
  if (sent == Sent::kYes) metrics_.sent(FrameKind::kWelcome, 0);
  take_up(added, std::move(*peer));
}

void Lane::take_down_known(const NodeIdentity& peer) {
  const auto known = nodes_.find({peer.role, peer.name});
  if (known == nodes_.end()) return;
  const bool same = known->second->peer.incarnation == peer.incarnation;
  take_down(*known->second, same ? "connected anew" : "started anew");
}

Link& Lane::add_link(Server& server, const std::string& routing_id, const NodeIdentity& peer) {
  auto link = std::make_unique<Link>();
  link->id = context_.next_id();
  link->server = &server;
  link->routing_id = routing_id;
  Link& added = *link;
  links_.emplace(added.id, std::move(link));
  server.peers[routing_id] = &added;
  nodes_[{peer.role, peer.name}] = &added;
  return added;
}

void Lane::turn_away(Server& server, std::string_view routing_id, base::Error error) {
  const auto sent = send_frames(
      server.socket, routing_id,
      plain_frames(core_->envelope(FrameKind::kError), wire::ErrorBody{std::move(error)}));
  if (sent == Sent::kYes) metrics_.sent(FrameKind::kError, 0);
}

// ---- both ----

void Lane::take_up(Link& link, NodeIdentity peer) {
  link.peer = std::move(peer);
  link.box = std::make_shared<Outbox>(core_, link.id, &link, link.direct);
  link.reply_proxy = make_reply_proxy(system_, link.box);
  link.last_heard = now_;
  link.next_heartbeat = now_ + milliseconds(core_->settings.heartbeat_ms);
  link.due = Time::max();
  link.give_up = Time::max();
  wake_by(link.next_heartbeat);
  directory_.add(link.id, link.peer.name, link.box);
  metrics_.link_up();
  context_.log().info("link_up", {{"peer", link.peer.name},
                                  {"role", to_string(link.peer.role)},
                                  {"incarnation", link.peer.incarnation}});
  tell({link.id, true, link.peer, {}});
  // Last: a listener hears of the link before actors hear of the peer.
  if (link.direct) link.direct->open(link.peer, link.reply_proxy);
}

void Lane::take_down(Link& link, std::string_view reason) {
  if (!link.up()) return;
  std::vector<Waiting> unanswered;
  if (link.direct) {
    unanswered = part(link);
  } else {
    // Also to a peer that may be gone: one that was only slow learns that it must come anew.
    auto goodbye = plain_frames(core_->envelope(FrameKind::kGoodbye), {});
    auto& socket = link.is_client() ? link.socket : link.server->socket;
    if (send_frames(socket, link.routing_id, std::move(goodbye)) == Sent::kYes) {
      metrics_.sent(FrameKind::kGoodbye, 0);
    }
    while (auto waiting = link.waiting.take_any()) unanswered.push_back(std::move(*waiting));
  }
  link.box->close();
  link.box->owner = nullptr;
  link.box.reset();
  const auto proxies = directory_.remove(link.id);
  const base::Error error{ErrorCode::kUnavailable,
                          "the link to " + link.peer.name + " is down: " + std::string(reason)};
  for (const Waiting& waiting : unanswered) {
    finish(waiting);
    fail_request(waiting.requester, error);
  }
  while (link.serving.take_any()) {
  }
  for (const auto& proxy : proxies) kill(proxy, error);
  kill(std::exchange(link.reply_proxy, nullptr), error);
  metrics_.link_down();
  context_.log().info("link_down", {{"peer", link.peer.name}, {"reason", reason}});
  const LinkEvent event{link.id, false, link.peer, std::string(reason)};
  if (link.is_client()) {
    close_socket(link, linger_);
    sockets_changed_ = true;
    link.due = now_ + milliseconds(core_->settings.reconnect_ms);
    wake_by(link.due);
  } else {
    link.server->peers.erase(link.routing_id);
    nodes_.erase({link.peer.role, link.peer.name});
    const auto found = links_.find(link.id);
    buried_.push_back(std::move(found->second));
    links_.erase(found);
  }
  tell(event);
}

void Lane::tell(const LinkEvent& event) {
  for (const Listener& listener : listeners_) listener(event);
}

}  // namespace conclave::fabric
