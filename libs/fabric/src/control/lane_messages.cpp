// What goes over links that are up, and what of it is refused.
#include <caf/all.hpp>
#include <utility>

#include "caf_message.hpp"
#include "conclave/wire/limits.hpp"
#include "lane.hpp"
#include "proxies.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;
using std::chrono::milliseconds;
using wire::FrameKind;

namespace {

/// An envelope holds two names and some numbers.
constexpr std::size_t kEnvelopeBytesMax = 4096;
/// The ids that CAF leaves to a request.
constexpr std::uint64_t kRequestIdMax = (std::uint64_t{1} << 60) - 1;

std::span<const std::byte> bytes_of(const zmq::message_t& frame) {
  return {static_cast<const std::byte*>(frame.data()), frame.size()};
}

}  // namespace

std::string Lane::peer_of(zmq::message_t& frame) const {
  const char* address = zmq_msg_gets(frame.handle(), "Peer-Address");
  return address == nullptr ? "a peer of this process" : address;
}

Frames Lane::plain_frames(wire::Envelope envelope, const wire::Message& message) const {
  envelope.type = wire::type_of(message);
  const wire::Bytes head = wire::encode(envelope);
  const wire::Bytes body = wire::encode(message);
  return {zmq::message_t(head.data(), head.size()), zmq::message_t(body.data(), body.size())};
}

wire::Message Lane::own_hello() const {
  const auto& self = core_->identity;
  return wire::Hello{self.name, self.role, self.incarnation};
}

// ---- in ----

std::optional<wire::Envelope> Lane::open_envelope(std::span<zmq::message_t> frames,
                                                  std::string_view peer) {
  if (frames.empty() || frames.size() > 2 || too_many_frames_) {
    context_.refused(Refusal::kMalformed, peer, "not one or two frames");
    return std::nullopt;
  }
  const std::size_t body_bytes = frames.size() == 2 ? frames[1].size() : 0;
  if (frames[0].size() > kEnvelopeBytesMax || body_bytes > wire::kMessageBytesMax) {
    context_.refused(Refusal::kOversized, peer, "a frame beyond the limit");
    return std::nullopt;
  }
  auto envelope = wire::decode_envelope(bytes_of(frames[0]));
  if (!envelope) {
    const bool version = envelope.error().code == ErrorCode::kUnimplemented;
    context_.refused(version ? Refusal::kVersion : Refusal::kMalformed, peer,
                     envelope.error().message);
    return std::nullopt;
  }
  if (envelope->payload_bytes != 0 || (envelope->type == 0) != (body_bytes == 0)) {
    context_.refused(Refusal::kMalformed, peer, "the envelope contradicts the frames");
    return std::nullopt;
  }
  metrics_.received(envelope->kind, frames[0].size() + body_bytes);
  return std::move(*envelope);
}

void Lane::on_server_frames(Server& server) {
  const std::string routing_id = frames_[0].to_string();
  const auto found = server.peers.find(routing_id);
  Link* const link = found == server.peers.end() ? nullptr : found->second;
  if (frames_.size() < 2) {
    context_.refused(Refusal::kMalformed, link ? link->peer.name : "", "no frames");
    return;
  }
  const auto frames = std::span(frames_).subspan(1);
  const auto envelope = open_envelope(frames, link ? link->peer.name : peer_of(frames_[1]));
  if (!envelope) return;
  const auto body = frames.size() == 2 ? bytes_of(frames[1]) : std::span<const std::byte>();
  if (envelope->kind == FrameKind::kHello) return on_hello(server, routing_id, *envelope, body);
  if (link != nullptr) return on_linked(*link, *envelope, body);
  if (envelope->kind == FrameKind::kGoodbye) return;
  context_.refused(Refusal::kMalformed, peer_of(frames_[1]), "comes before a hello");
  auto goodbye = plain_frames(core_->envelope(FrameKind::kGoodbye), {});
  if (send_frames(server.socket, routing_id, std::move(goodbye)) == Sent::kYes) {
    metrics_.sent(FrameKind::kGoodbye, 0);
  }
}

void Lane::on_client_frames(Link& link) {
  const auto frames = std::span(frames_);
  const auto envelope = open_envelope(frames, link.address);
  if (!envelope) return;
  const auto body = frames.size() == 2 ? bytes_of(frames[1]) : std::span<const std::byte>();
  if (envelope->kind == FrameKind::kWelcome) return on_welcome(link, *envelope, body);
  if (link.up()) return on_linked(link, *envelope, body);
  if (envelope->kind == FrameKind::kError && envelope->request_id == 0) {
    return on_not_welcome(link, body);
  }
  if (envelope->kind == FrameKind::kGoodbye) return;  // the next hello is due soon
  context_.refused(Refusal::kMalformed, link.address, "comes before a welcome");
}

void Lane::on_linked(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body) {
  if (envelope.incarnation != link.peer.incarnation) {
    context_.refused(Refusal::kStale, link.peer.name, "of another start of the node");
    return;
  }
  link.last_heard = now_;
  switch (envelope.kind) {
    case FrameKind::kRequest:
      return on_request(link, envelope, body);
    case FrameKind::kCast:
      return on_cast(link, envelope, body);
    case FrameKind::kReply:
    case FrameKind::kError:
      return on_answer(link, envelope, body);
    case FrameKind::kHeartbeat:
      return;
    case FrameKind::kGoodbye:
      return take_down(link, "goodbye");
    case FrameKind::kHello:
    case FrameKind::kWelcome:
      break;
  }
  context_.refused(Refusal::kMalformed, link.peer.name, "not from this side of a link");
}

void Lane::on_request(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body) {
  const std::uint64_t id = envelope.request_id;
  if (id == 0 || id > kRequestIdMax) {
    context_.refused(Refusal::kMalformed, link.peer.name, "an unusable request id");
    return;
  }
  if (stopping_)
    return refuse_request(link, id, {ErrorCode::kUnavailable, "this node is stopping"});
  if (core_->wall_clock && envelope.deadline_unix_ns != 0) {
    const std::chrono::nanoseconds deadline(envelope.deadline_unix_ns);
    if (core_->wall_clock().time_since_epoch() > deadline) {
      context_.refused(Refusal::kStale, link.peer.name, "a request after its deadline");
      return refuse_request(link, id, {ErrorCode::kDeadlineExceeded, "it arrived too late"});
    }
  }
  if (link.serving.size() >= core_->settings.requests_max) {
    context_.refused(Refusal::kOverloaded, link.peer.name, "too many requests");
    return refuse_request(link, id, {ErrorCode::kOverloaded, "too many requests of this peer"});
  }
  auto target = exports_.find_for(link.peer, envelope.target, envelope.type, context_);
  if (!target) return refuse_request(link, id, std::move(target).error());
  auto message = wire::decode(envelope.type, body);
  if (!message) {
    context_.refused(Refusal::kMalformed, link.peer.name, message.error().message);
    return refuse_request(link, id, std::move(message).error());
  }
  auto element = make_element(link.reply_proxy, caf::make_message_id(id), std::move(*message));
  const auto deadline = now_ + milliseconds(core_->settings.request_timeout_ms);
  if (!element || !link.serving.add(id, deadline, {})) {
    context_.refused(Refusal::kMalformed, link.peer.name, "a request of no type, or id, for one");
    return;
  }
  wake_by(deadline);
  caf::actor_cast<caf::abstract_actor*>(target->actor)->enqueue(std::move(element), &unit_);
}

void Lane::on_cast(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body) {
  const auto target = exports_.find_for(link.peer, envelope.target, envelope.type, context_);
  if (!target) return;
  auto message = wire::decode(envelope.type, body);
  if (!message) {
    return context_.refused(Refusal::kMalformed, link.peer.name, message.error().message);
  }
  auto element = make_element(link.reply_proxy, caf::make_message_id(), std::move(*message));
  if (!element) {
    return context_.refused(Refusal::kMalformed, link.peer.name, "a cast of no type for one");
  }
  caf::actor_cast<caf::abstract_actor*>(target->actor)->enqueue(std::move(element), &unit_);
}

void Lane::on_answer(Link& link, const wire::Envelope& envelope, std::span<const std::byte> body) {
  const auto waiting = link.waiting.take(envelope.request_id);
  if (!waiting) return;  // it came after its time
  finish(*waiting);
  const auto broken = [&](std::string detail) {
    context_.refused(Refusal::kMalformed, link.peer.name, detail);
    fail_request(waiting->requester, {ErrorCode::kCorruptData, std::move(detail)});
  };
  auto message = wire::decode(envelope.type, body);
  if (!message) return broken("an answer that is malformed: " + message.error().message);
  auto* error = std::get_if<wire::ErrorBody>(&*message);
  if ((error != nullptr) != (envelope.kind == FrameKind::kError)) {
    return broken("an answer of the wrong kind");
  }
  if (error != nullptr) return fail_request(waiting->requester, std::move(error->error));
  auto element = make_element(nullptr, waiting->requester.response_id, std::move(*message));
  if (!element) return broken("an answer of no type for one");
  if (waiting->requester.actor) waiting->requester.actor->enqueue(std::move(element), &unit_);
}

// ---- out ----

void Lane::refuse_request(Link& link, std::uint64_t request_id, base::Error error) {
  wire::Envelope envelope = core_->envelope(FrameKind::kError);
  envelope.request_id = request_id;
  auto frames = link.box->frames(std::move(envelope), wire::ErrorBody{std::move(error)});
  if (!frames) return take_down(link, "takes too little of what it is sent");
  send(link, FrameKind::kError, std::move(*frames));
}

void Lane::transmit(Outgoing outgoing) {
  Link* const link = outgoing.box->owner;
  if (outgoing.kind == FrameKind::kRequest) {
    if (link == nullptr) {
      core_->requests.fetch_sub(1, std::memory_order_relaxed);
      fail_request(outgoing.requester, {ErrorCode::kUnavailable, "the link is down"});
      return;
    }
    const auto deadline = now_ + milliseconds(core_->settings.request_timeout_ms);
    link->waiting.add(outgoing.request_id, deadline, {std::move(outgoing.requester), now_});
    metrics_.request_began();
    wake_by(deadline);
  } else if (link == nullptr) {
    return;
  } else if (outgoing.kind != FrameKind::kCast && !link->serving.take(outgoing.request_id)) {
    return;  // the peer has given it up
  }
  send(*link, outgoing.kind, std::move(outgoing.frames));
}

void Lane::finish(const Waiting& waiting) {
  core_->requests.fetch_sub(1, std::memory_order_relaxed);
  metrics_.request_ended(now_ - waiting.started);
}

void Lane::send_plain(Link& link, const wire::Envelope& envelope, const wire::Message& message) {
  send(link, envelope.kind, plain_frames(envelope, message));
}

void Lane::send(Link& link, FrameKind kind, Frames frames) {
  const std::size_t bytes = frames.head.size() + frames.body.size();
  auto& socket = link.is_client() ? link.socket : link.server->socket;
  switch (send_frames(socket, link.routing_id, std::move(frames))) {
    case Sent::kYes:
      return metrics_.sent(kind, bytes);
    case Sent::kFull:
      return take_down(link, "takes too little of what it is sent");
    case Sent::kGone:
      return take_down(link, "disconnected");
  }
}

Lane::Sent Lane::send_frames(zmq::socket_t& socket, std::string_view routing_id, Frames frames) {
  const auto send_one = [&socket](zmq::message_t& frame, bool more) {
    return zmq_msg_send(frame.handle(), socket.handle(), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) >=
           0;
  };
  const bool has_body = frames.body.size() > 0;
  if (!routing_id.empty()) {
    zmq::message_t to(routing_id.data(), routing_id.size());
    if (!send_one(to, true)) return zmq_errno() == EAGAIN ? Sent::kFull : Sent::kGone;
  }
  if (!send_one(frames.head, has_body)) return Sent::kGone;  // a client without a connection
  if (has_body && !send_one(frames.body, false)) return Sent::kGone;
  return Sent::kYes;
}

}  // namespace conclave::fabric
