#include "client_link.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "conclave/wire/limits.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using std::chrono::milliseconds;
using wire::FrameKind;

namespace {

/// Messages of one link that are taken before the others have their turn.
constexpr int kBurst = 256;

constexpr std::uint16_t kReplyType = wire::kTypeOf<wire::ExpertReply>;

}  // namespace

ClientLink::ClientLink(ClientShared& shared, DataLinkId id, std::string address,
                       EventPoller::Token first_token, Listener& listener)
    : shared_(shared),
      id_(id),
      address_(std::move(address)),
      first_token_(first_token),
      listener_(listener),
      packet_(kPacketBytesMax) {}

ClientLink::~ClientLink() {
  if (is_up()) shared_.metrics.link_down(road());
  close_socket();
}

base::Status ClientLink::open() {
  auto status = open_socket();
  if (!status) close_socket();
  return status;
}

base::Status ClientLink::open_socket() {
  opened_ = Time::clock::now();
  const DataSettings& settings = shared_.settings;
  const auto endpoint = shared_.context.endpoint(address_);
  if (!endpoint) {  // its name is being looked up
    due_ = opened_ + milliseconds(settings.reconnect_ms);
    return {};
  }
  SocketLimits limits;
  limits.receive_messages = kUnboundedForHeartbeats;
  limits.frame_bytes = static_cast<std::int64_t>(wire::kPayloadBytesMax) + (1 << 20);
  limits.reconnect_ms = static_cast<int>(settings.reconnect_ms);
  try {
    socket_ = zmq::socket_t(shared_.context.zmq(), zmq::socket_type::dealer);
    CONCLAVE_TRY_VOID(shared_.context.configure_client(
        socket_, address_, wire::NodeRole::kExpertWorker, settings.encryption, limits));
    socket_.set(zmq::sockopt::heartbeat_ivl, static_cast<int>(settings.heartbeat_ms));
    socket_.set(zmq::sockopt::heartbeat_timeout, static_cast<int>(settings.peer_timeout_ms));
    socket_.set(zmq::sockopt::heartbeat_ttl, static_cast<int>(settings.peer_timeout_ms));
    monitor_ = shared_.context.monitor(socket_);
    socket_.connect(*endpoint);
    if (!shared_.poller.add(descriptor_of(socket_.handle()), first_token_ + kSocket) ||
        !shared_.poller.add(descriptor_of(monitor_.handle()), first_token_ + kMonitor)) {
      return base::fail(ErrorCode::kUnavailable, "epoll refuses another descriptor");
    }
  } catch (const zmq::error_t& error) {
    const auto code = error.num() == EINVAL ? ErrorCode::kInvalidArgument : ErrorCode::kUnavailable;
    return base::fail(code, address_ + ": " + error.what());
  }
  state_ = State::kConnecting;
  // ZeroMQ itself gives up for good after some errors, such as a key that the worker does not know
  // yet: a new socket tries again.
  due_ = opened_ + milliseconds(std::max(settings.peer_timeout_ms, settings.reconnect_ms));
  read_monitor();  // a ZeroMQ socket signals only after a look that found nothing
  return {};
}

void ClientLink::close_socket() {
  close_local();
  if (monitor_.handle() != nullptr) shared_.poller.remove(descriptor_of(monitor_.handle()));
  monitor_.close();
  if (socket_.handle() != nullptr) shared_.poller.remove(descriptor_of(socket_.handle()));
  socket_.close();
  connected_ = false;
  unread_ = false;
  state_ = State::kWaiting;
}

void ClientLink::tick(Time now) {
  if (unread_) read_socket();
  if (now < due_) return;
  close_socket();
  if (const auto status = open_socket(); !status) {
    close_socket();
    due_ = now + milliseconds(shared_.settings.reconnect_ms);
    if (const auto skipped = shared_.repeats.admit("open " + address_, now)) {
      shared_.context.log().warn(
          "data_link_failed",
          {{"address", address_}, {"error", status.error().message}, {"skipped", *skipped}});
    }
  }
}

void ClientLink::ready(Part part) {
  switch (part) {
    case kSocket:
      return read_socket();
    case kMonitor:
      return read_monitor();
    case kLocal:
      return read_local();
  }
}

// ---- The ZeroMQ connection ----

void ClientLink::read_monitor() {
  while (monitor_.handle() != nullptr) {
    const auto event = monitor_.next();
    if (!event) return;
    if (event->event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED && state_ == State::kConnecting) {
      connected_ = true;
      due_ = Time::max();  // from here on ZeroMQ's heartbeats tell whether anybody is there
      greet();
    } else if (event->event == ZMQ_EVENT_DISCONNECTED && connected_) {
      read_socket();  // what came before
      if (state_ != State::kWaiting) fail({ErrorCode::kUnavailable, "the connection ended"});
    } else if (event->event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ||
               event->event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) {
      if (const auto skipped = shared_.repeats.admit("refused " + address_, Time::clock::now())) {
        shared_.context.log().warn("data_link_refused",
                                   {{"address", address_}, {"skipped", *skipped}});
      }
    }
  }
}

void ClientLink::greet() {
  wire::Envelope envelope;
  envelope.kind = FrameKind::kHello;
  envelope.type = wire::kTypeOf<wire::Hello>;
  envelope.incarnation = shared_.incarnation;
  const wire::Hello hello{shared_.node_name, wire::NodeRole::kRouter, shared_.incarnation};
  std::array<zmq::message_t, 2> frames{copied_frame(wire::encode(envelope)),
                                       copied_frame(wire::encode(wire::Message(hello)))};
  // The connection is known to the socket only after it has looked at its commands.
  (void)socket_.get(zmq::sockopt::events);
  if (send_frames(socket_, frames) != Delivery::kSent) return;  // read_socket() tries again
  state_ = State::kGreeting;
  unread_ = true;
}

void ClientLink::read_socket() {
  if (state_ == State::kConnecting && connected_) greet();
  for (int i = 0; i < kBurst && socket_.handle() != nullptr; ++i) {
    if (!receive_frames(socket_, frames_, 3)) {
      unread_ = false;
      return;
    }
    if (frames_.empty()) {
      malformed("a message of too many frames");
    } else {
      take(frames_);
    }
  }
  unread_ = true;
}

void ClientLink::take(std::span<zmq::message_t> frames) {
  const auto envelope = wire::decode_envelope(frame_bytes(frames[0]));
  if (!envelope) return malformed(envelope.error().message);
  const auto body = frames.size() > 1 ? frame_bytes(frames[1]) : std::span<const std::byte>{};
  switch (envelope->kind) {
    case FrameKind::kReply:
      if (!is_up()) return malformed("a reply before the welcome");
      return use(*envelope, body, frames.size() > 2 ? &frames[2] : nullptr, Road::kFrames);
    case FrameKind::kWelcome:
      if (state_ != State::kGreeting) return malformed("a welcome that nobody waits for");
      return welcomed(body, frames.size() > 2 ? frame_bytes(frames[2]) : body.first(0));
    case FrameKind::kError: {
      if (state_ != State::kGreeting) return malformed("an error that answers nothing");
      const auto message = wire::decode(wire::kTypeOf<wire::ErrorBody>, body);
      if (!message) return malformed(message.error().message);
      return fail(std::get<wire::ErrorBody>(*message).error.within("refused"));
    }
    case FrameKind::kHeartbeat:
      return;
    case FrameKind::kRequest:
    case FrameKind::kCast:
    case FrameKind::kHello:
    case FrameKind::kGoodbye:
      return malformed("a message that workers do not send");
  }
}

void ClientLink::welcomed(std::span<const std::byte> body, std::span<const std::byte> payload) {
  const auto message = wire::decode(wire::kTypeOf<wire::Hello>, body);
  if (!message) return fail(message.error().within("welcome"));
  const auto& hello = std::get<wire::Hello>(*message);
  if (hello.role != wire::NodeRole::kExpertWorker) {
    return fail({ErrorCode::kInvalidArgument, "this is no worker"});
  }
  peer_name_ = hello.node;
  peer_incarnation_ = hello.incarnation;
  const auto offer = decode_offer(payload);
  if (!offer || !shared_.settings.shared_memory) return come_up();
  if (const auto status = open_local(*offer); !status) {
    close_local();
    shared_.context.log().debug("data_link_not_shared",
                                {{"worker", peer_name_}, {"reason", status.error().message}});
    come_up();
  }
}

// ---- The local road ----

base::Status ClientLink::open_local(const LocalOffer& offer) {
  CONCLAVE_TRY(local_, LocalSocket::connect(offer.name));
  CONCLAVE_TRY(auto segment, SharedSegment::create(shared_.settings.shared_bytes));
  memory_ = std::make_shared<CallMemory>(std::move(segment));
  const auto opening = encode_opening(offer.token);
  const std::array<std::span<const std::byte>, 1> parts{opening};
  if (!local_.send(parts, memory_->segment.descriptor()) ||
      !shared_.poller.add(local_.descriptor(), first_token_ + kLocal)) {
    return base::fail(ErrorCode::kUnavailable, "the local socket does not work");
  }
  state_ = State::kOpening;
  return {};
}

void ClientLink::close_local() {
  if (local_.ok()) shared_.poller.remove(local_.descriptor());
  local_.close();
  memory_.reset();
}

void ClientLink::read_local() {
  for (int i = 0; i < kBurst && local_.ok(); ++i) {
    const auto got = local_.receive(packet_);
    if (got.state == LocalSocket::Packet::State::kNone) return;
    const bool gone = got.state == LocalSocket::Packet::State::kGone;
    if (state_ == State::kOpening) {
      if (gone || !accepts(got.bytes)) close_local();
      return come_up();
    }
    if (gone) return fail({ErrorCode::kUnavailable, "the local connection ended"});
    const auto packet = split_packet(got.bytes);
    const auto envelope = packet ? wire::decode_envelope(packet->envelope)
                                 : base::fail(ErrorCode::kCorruptData, "lengths that do not fit");
    if (!envelope || envelope->kind != FrameKind::kReply) {
      malformed(envelope ? "a packet that is no reply" : envelope.error().message);
      continue;
    }
    use(*envelope, packet->body, nullptr, Road::kShared);
  }
}

// ---- Up and down ----

void ClientLink::come_up() {
  state_ = State::kUp;
  shared_.metrics.link_up(road());
  if (const auto skipped = shared_.repeats.admit("up " + address_, Time::clock::now())) {
    shared_.context.log().info("data_link_up", {{"worker", peer_name_},
                                                {"address", address_},
                                                {"road", to_string(road())},
                                                {"skipped", *skipped}});
  }
  listener_.link_up(*this);
}

void ClientLink::fail(base::Error why) {
  const bool was_up = is_up();
  if (was_up) shared_.metrics.link_down(road());
  close_socket();
  due_ = std::max(Time::clock::now(), opened_ + milliseconds(shared_.settings.reconnect_ms));
  if (const auto skipped = shared_.repeats.admit("down " + address_, Time::clock::now())) {
    shared_.context.log().warn("data_link_down", {{"worker", peer_name_},
                                                  {"address", address_},
                                                  {"reason", why.message},
                                                  {"skipped", *skipped}});
  }
  if (was_up) listener_.link_down(*this, why);
}

void ClientLink::malformed(std::string_view what) {
  shared_.context.refused(Refusal::kMalformed, peer_name_.empty() ? address_ : peer_name_, what);
}

// ---- Calls ----

void ClientLink::send_shared(const wire::Envelope& envelope, const wire::ExpertCall& call,
                             std::uint64_t offset) {
  const wire::Bytes head = wire::encode(envelope);
  const wire::Bytes body = wire::encode(wire::Message(call));
  if (!send_packet(local_, head, body, offset)) {
    fail({ErrorCode::kUnavailable, "the local connection ended"});
  }
}

void ClientLink::send_framed(const wire::Envelope& envelope, const wire::ExpertCall& call,
                             Buffer payload) {
  std::array<zmq::message_t, 3> frames{copied_frame(wire::encode(envelope)),
                                       copied_frame(wire::encode(wire::Message(call))),
                                       payload_frame(std::move(payload))};
  if (send_frames(socket_, frames) != Delivery::kSent) {
    return fail({ErrorCode::kUnavailable, "the connection ended"});
  }
  unread_ = true;
}

void ClientLink::use(const wire::Envelope& envelope, std::span<const std::byte> body,
                     zmq::message_t* payload, Road road) {
  if (envelope.incarnation != peer_incarnation_ || envelope.type != kReplyType) {
    return envelope.type != kReplyType
               ? malformed("an answer that is no reply of a worker")
               : shared_.context.refused(Refusal::kStale, peer_name_, "an earlier start's answer");
  }
  listener_.replied(*this, envelope, body, payload, road);
}

}  // namespace conclave::fabric
