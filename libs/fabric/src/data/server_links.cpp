#include "server_links.hpp"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <utility>

#include "conclave/wire/limits.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;
using std::chrono::milliseconds;
using wire::FrameKind;

namespace {

/// Messages of one socket that are taken before the others have their turn.
constexpr int kBurst = 256;
/// Connections to the local socket that have not said who they are; the oldest goes for the next.
/// Honest ones speak at once.
constexpr std::size_t kStrangersMax = 64;
/// Answers that a router has not read yet; a further one ends its link.
constexpr int kUnreadMax = 256;
/// ZeroMQ reports the end of a connection a little before it forgets the connection itself, and
/// does not say whose it was: all are tried this long after it, and once more each heartbeat.
constexpr milliseconds kAfterDisconnect{20};

}  // namespace

ServerLinks::~ServerLinks() {
  for (const auto& [id, peer] : peers_) shared_.metrics.link_down(peer->road());
}

base::Result<std::string> ServerLinks::listen(const std::string& address) {
  if (router_.handle() != nullptr) {
    return fail(ErrorCode::kFailedPrecondition, "it listens already");
  }
  if (!is_address(address) || is_inproc(address)) {
    return fail(ErrorCode::kInvalidArgument, "not an address to listen at: " + address);
  }
  const DataSettings& settings = shared_.settings;
  SocketLimits limits;
  limits.send_messages = kUnreadMax;
  limits.receive_messages = kUnboundedForHeartbeats;
  limits.frame_bytes = static_cast<std::int64_t>(std::min<std::uint64_t>(
                           wire::kPayloadBytesMax, shared_.limits.bytes_max)) +
                       (1 << 20);
  try {
    zmq::socket_t socket(shared_.context.zmq(), zmq::socket_type::router);
    CONCLAVE_TRY_VOID(shared_.context.configure_server(
        socket, address, wire::NodeRole::kExpertWorker, settings.encryption, limits));
    socket.set(zmq::sockopt::heartbeat_ivl, static_cast<int>(settings.heartbeat_ms));
    socket.set(zmq::sockopt::heartbeat_timeout, static_cast<int>(settings.peer_timeout_ms));
    socket.set(zmq::sockopt::heartbeat_ttl, static_cast<int>(settings.peer_timeout_ms));
    SocketMonitor monitor = shared_.context.monitor(socket);
    socket.bind(address);
    if (!shared_.poller.add(descriptor_of(socket.handle()), kRouter) ||
        !shared_.poller.add(descriptor_of(monitor.handle()), kMonitor)) {
      return fail(ErrorCode::kUnavailable, "epoll refuses another descriptor");
    }
    router_ = std::move(socket);
    monitor_ = std::move(monitor);
  } catch (const zmq::error_t& error) {
    const bool malformed = error.num() == EINVAL || error.num() == EPROTONOSUPPORT;
    return fail(malformed ? ErrorCode::kInvalidArgument : ErrorCode::kUnavailable,
                address + ": " + error.what());
  }
  if (settings.shared_memory) offer_memory();
  read_monitor();  // a ZeroMQ socket signals only after a look that found nothing
  return router_.get(zmq::sockopt::last_endpoint);
}

// Without it routers of this host use frames as others do.
void ServerLinks::offer_memory() {
  auto listener = LocalListener::create();
  if (listener && shared_.poller.add(listener->descriptor(), kListener)) {
    local_listener_ = std::move(*listener);
    packet_.resize(kPacketBytesMax);
    return;
  }
  shared_.context.log().warn(
      "data_memory_not_shared",
      {{"reason", listener ? std::string("epoll refuses") : listener.error().message}});
}

void ServerLinks::ready(EventPoller::Token token) {
  if (token == kRouter) return read_router();
  if (token == kMonitor) return read_monitor();
  if (token == kListener) return accept_strangers();
  if (const auto peer = locals_.find(token); peer != locals_.end()) return read_local(peer->second);
  const auto stranger = std::ranges::find(strangers_, token, &Stranger::token);
  if (stranger != strangers_.end()) hear_stranger(stranger);
}

void ServerLinks::tick(Time now) {
  if (unread_) read_router();
  if (now >= due_) probe(now);
}

// Says to the routers on the road of frames that we are here, which fails for those that are gone.
// On the local road the end of the connection says so.
void ServerLinks::probe(Time now) {
  due_ = now < probe_until_ ? now + milliseconds(shared_.settings.heartbeat_ms) : Time::max();
  std::vector<std::shared_ptr<DataPeer>> gone;
  for (const auto& [id, peer] : peers_) {
    if (peer->road() == Road::kShared) continue;
    std::array<zmq::message_t, 2> frames{
        zmq::message_t(id.data(), id.size()),
        copied_frame(wire::encode(envelope(FrameKind::kHeartbeat)))};
    if (send(frames) == Delivery::kNoPeer) gone.push_back(peer);
  }
  for (const auto& peer : gone) remove(peer, "the connection ended");
}

// ---- ZeroMQ ----

void ServerLinks::read_monitor() {
  while (const auto event = monitor_.next()) {
    shared_.context.count_failed_handshake(*event);
    if (event->event == ZMQ_EVENT_DISCONNECTED) {
      const Time now = Time::clock::now();
      due_ = std::min(due_, now + kAfterDisconnect);
      probe_until_ = now + milliseconds(shared_.settings.peer_timeout_ms);
    }
  }
}

void ServerLinks::read_router() {
  for (int i = 0; i < kBurst; ++i) {
    if (!receive_frames(router_, frames_, 4)) {
      unread_ = false;
      return;
    }
    if (frames_.size() < 2) {
      malformed("a router", {ErrorCode::kCorruptData, "a message of the wrong number of frames"});
    } else {
      take(frames_);
    }
  }
  unread_ = true;
}

void ServerLinks::take(std::vector<zmq::message_t>& frames) {
  const std::string routing_id = frames[0].to_string();
  const auto known = peers_.find(routing_id);
  std::string_view name = "a stranger";
  if (known != peers_.end()) name = known->second->name;
  const auto head = wire::decode_envelope(frame_bytes(frames[1]));
  if (!head) return malformed(name, head.error());
  const auto body = frames.size() > 2 ? frame_bytes(frames[2]) : std::span<const std::byte>{};
  if (head->kind == FrameKind::kHello && known == peers_.end()) {
    return greet(routing_id, frames[1], body);
  }
  if (head->kind != FrameKind::kRequest || known == peers_.end()) {
    return malformed(name, {ErrorCode::kCorruptData, "a message that may not come now"});
  }
  const std::shared_ptr<DataPeer> peer = known->second;
  request({peer, Road::kFrames, *head, body, frames.size() > 3 ? &frames[3] : nullptr, 0});
}

void ServerLinks::greet(const std::string& routing_id, zmq::message_t& head,
                        std::span<const std::byte> body) {
  const auto message = wire::decode(wire::kTypeOf<wire::Hello>, body);
  if (!message) return refuse_hello(routing_id, Refusal::kMalformed, message.error());
  const auto& hello = std::get<wire::Hello>(*message);
  const auto role = shared_.context.sender_role(head);
  if (role != wire::NodeRole::kRouter || hello.role != *role) {
    return refuse_hello(routing_id, Refusal::kWrongRole,
                        {ErrorCode::kInvalidArgument, "experts serve routers only"});
  }
  if (peers_.size() >= shared_.limits.peers_max) {
    return refuse_hello(routing_id, Refusal::kOverloaded,
                        {ErrorCode::kOverloaded, "it has as many routers as it may"});
  }
  const auto token = draw_random();
  auto peer = std::make_shared<DataPeer>();
  peer->name = hello.node;
  peer->routing_id = routing_id;
  peer->incarnation = hello.incarnation;
  peer->offered = token && local_listener_;
  if (token) peer->token = *token;
  welcome(peer);
}

void ServerLinks::welcome(const std::shared_ptr<DataPeer>& peer) {
  wire::Envelope head = envelope(FrameKind::kWelcome);
  head.type = wire::kTypeOf<wire::Hello>;
  head.payload_bytes = peer->offered ? kOfferBytes : 0;
  const wire::Hello hello{shared_.node_name, wire::NodeRole::kExpertWorker, shared_.incarnation};
  std::array<zmq::message_t, 4> frames{
      zmq::message_t(peer->routing_id.data(), peer->routing_id.size()),
      copied_frame(wire::encode(head)), copied_frame(wire::encode(wire::Message(hello))),
      zmq::message_t()};
  if (peer->offered) frames[3] = copied_frame(encode_offer({local_listener_->name(), peer->token}));
  const std::size_t count = peer->offered ? 4 : 3;
  if (send(std::span(frames).first(count)) != Delivery::kSent) return;  // gone already
  peers_.emplace(peer->routing_id, peer);
  peer_count_ = peers_.size();
  shared_.metrics.link_up(peer->road());
  shared_.context.log().info("router_linked", {{"router", peer->name}});
}

void ServerLinks::refuse_hello(const std::string& routing_id, Refusal reason, base::Error error) {
  shared_.context.refused(reason, "a router", error.message);
  wire::Envelope head = envelope(FrameKind::kError);
  head.type = wire::kTypeOf<wire::ErrorBody>;
  std::array<zmq::message_t, 3> frames{
      zmq::message_t(routing_id.data(), routing_id.size()), copied_frame(wire::encode(head)),
      copied_frame(wire::encode(wire::Message(wire::ErrorBody{std::move(error)})))};
  send(frames);
}

// ---- The local road ----

void ServerLinks::accept_strangers() {
  for (std::size_t i = 0; i < kStrangersMax; ++i) {
    auto socket = local_listener_->accept();
    if (!socket) return;
    const EventPoller::Token token = next_local_++;
    if (!shared_.poller.add(socket->descriptor(), token)) continue;
    strangers_.push_back({token, std::move(*socket)});
    if (strangers_.size() <= kStrangersMax) continue;
    shared_.poller.remove(strangers_.front().socket.descriptor());
    strangers_.pop_front();
    shared_.context.refused(Refusal::kOverloaded, "a local stranger", "said nothing");
  }
}

void ServerLinks::hear_stranger(std::deque<Stranger>::iterator stranger) {
  auto got = stranger->socket.receive(packet_);
  if (got.state == LocalSocket::Packet::State::kNone) return;
  shared_.poller.remove(stranger->socket.descriptor());
  const EventPoller::Token id = stranger->token;
  LocalSocket socket = std::move(stranger->socket);
  strangers_.erase(stranger);
  if (got.state == LocalSocket::Packet::State::kGone) return;

  const auto token = decode_opening(got.bytes);
  const auto peer = token ? peer_of(*token) : nullptr;
  if (!peer) {
    return shared_.context.refused(Refusal::kNoKey, "a local stranger", "has no token");
  }
  peer->offered = false;  // each serves once
  auto segment = SharedSegment::open(std::move(got.passed), shared_.settings.shared_bytes);
  const bool accepted = segment && shared_.poller.add(socket.descriptor(), id);
  const auto answer = encode_answer(accepted);
  const std::array<std::span<const std::byte>, 1> parts{answer};
  if (!socket.send(parts) || !accepted) {
    if (!segment) {
      shared_.context.refused(Refusal::kMalformed, peer->name, segment.error().message);
    }
    if (accepted) shared_.poller.remove(socket.descriptor());
    return;
  }
  shared_.metrics.link_down(peer->road());
  peer->segment.emplace(std::move(*segment));
  peer->local = std::move(socket);
  peer->local_id = id;
  locals_.emplace(id, peer);
  shared_.metrics.link_up(peer->road());
}

std::shared_ptr<DataPeer> ServerLinks::peer_of(const Random128& token) const {
  for (const auto& [id, peer] : peers_) {
    if (peer->offered && sodium_memcmp(peer->token.data(), token.data(), token.size()) == 0) {
      return peer;
    }
  }
  return nullptr;
}

void ServerLinks::read_local(std::shared_ptr<DataPeer> peer) {
  for (int i = 0; i < kBurst && !peer->gone; ++i) {
    const auto got = peer->local.receive(packet_);
    if (got.state == LocalSocket::Packet::State::kNone) return;
    if (got.state == LocalSocket::Packet::State::kGone) {
      return remove(std::move(peer), "the local connection ended");
    }
    const auto packet = split_packet(got.bytes);
    const auto head = packet ? wire::decode_envelope(packet->envelope)
                             : fail(ErrorCode::kCorruptData, "lengths that do not fit");
    if (!head) {
      malformed(peer->name, head.error());
    } else if (head->kind != FrameKind::kRequest) {
      malformed(peer->name, {ErrorCode::kCorruptData, "a packet that is no call"});
    } else {
      request({peer, Road::kShared, *head, packet->body, nullptr, packet->offset});
    }
  }
}

void ServerLinks::request(const Request& request) {
  if (request.envelope.incarnation != request.peer->incarnation) {
    return shared_.context.refused(Refusal::kStale, request.peer->name, "another start's call");
  }
  listener_.requested(request);
}

// ---- Out ----

wire::Envelope ServerLinks::envelope(FrameKind kind) const {
  wire::Envelope head;
  head.kind = kind;
  head.incarnation = shared_.incarnation;
  return head;
}

Delivery ServerLinks::send(std::span<zmq::message_t> frames) {
  unread_ = true;
  return send_frames(router_, frames);
}

void ServerLinks::reply(const std::shared_ptr<DataPeer>& peer, Road road, std::uint64_t request_id,
                        const wire::ExpertReply& reply, std::size_t payload_bytes, Buffer payload) {
  if (peer->gone) return;
  wire::Envelope head = envelope(FrameKind::kReply);
  head.type = wire::kTypeOf<wire::ExpertReply>;
  head.request_id = request_id;
  head.payload_bytes = payload_bytes;
  const wire::Bytes head_bytes = wire::encode(head);
  const wire::Bytes body = wire::encode(wire::Message(reply));
  if (road == Road::kShared) {
    if (!send_packet(peer->local, head_bytes, body, 0)) remove(peer, "it does not read");
    return;
  }
  std::array<zmq::message_t, 4> frames{
      zmq::message_t(peer->routing_id.data(), peer->routing_id.size()), copied_frame(head_bytes),
      copied_frame(body), zmq::message_t()};
  if (payload_bytes > 0) frames[3] = payload_frame(std::move(payload));
  const std::size_t count = payload_bytes > 0 ? 4 : 3;
  if (send(std::span(frames).first(count)) != Delivery::kSent) {
    remove(peer, "the connection ended");
  }
}

void ServerLinks::remove(std::shared_ptr<DataPeer> peer, std::string_view why) {
  peer->gone = true;
  shared_.metrics.link_down(peer->road());
  if (peer->local.ok()) {
    shared_.poller.remove(peer->local.descriptor());
    peer->local.close();
    locals_.erase(peer->local_id);
  }
  peers_.erase(peer->routing_id);
  peer_count_ = peers_.size();
  shared_.context.log().info("router_unlinked", {{"router", peer->name}, {"reason", why}});
}

void ServerLinks::malformed(std::string_view peer, const base::Error& what) {
  const bool version = what.code == ErrorCode::kUnimplemented;
  shared_.context.refused(version ? Refusal::kVersion : Refusal::kMalformed, peer, what.message);
}

}  // namespace conclave::fabric
