#include "outbox.hpp"

#include <caf/all.hpp>
#include <chrono>
#include <utility>

#include "conclave/fabric/caf_error.hpp"
#include "conclave/wire/limits.hpp"
#include "direct_end.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;
using wire::FrameKind;

namespace {

/// A body inside ZeroMQ, and the room that it takes.
struct Held {
  wire::Bytes bytes;
  std::shared_ptr<Credits> credits;
  std::size_t charged = 0;
};

/// Called by ZeroMQ, on a thread of its own, when the bytes are no longer needed.
void release(void* /*data*/, void* hint) {
  const std::unique_ptr<Held> held(static_cast<Held*>(hint));
  held->credits->give(held->charged);
}

}  // namespace

void fail_request(const Requester& requester, base::Error error) {
  if (!requester.actor) return;
  requester.actor->enqueue(nullptr, requester.response_id,
                           caf::make_message(to_caf(std::move(error))), nullptr);
}

wire::Envelope NodeCore::envelope(FrameKind kind) const {
  wire::Envelope envelope;
  envelope.kind = kind;
  envelope.incarnation = identity.incarnation;
  return envelope;
}

Outbox::Outbox(std::shared_ptr<NodeCore> core, LinkId link, Link* link_owner,
               std::shared_ptr<DirectEnd> direct)
    : owner(link_owner),
      core_(std::move(core)),
      link_(link),
      credits_(
          std::make_shared<Credits>(core_->settings.queue_messages, core_->settings.queue_bytes)),
      direct_(std::move(direct)) {}

std::optional<Frames> Outbox::frames(wire::Envelope envelope, const wire::Message& message) {
  envelope.type = wire::type_of(message);
  const wire::Bytes head = wire::encode(envelope);
  auto held = std::make_unique<Held>(Held{wire::encode(message), credits_, 0});
  const std::size_t bytes = head.size() + held->bytes.size();
  if (!credits_->take(bytes)) return std::nullopt;
  held->charged = bytes;
  Frames frames{zmq::message_t(head.data(), head.size()), {}};
  void* const data = held->bytes.data();
  const std::size_t size = held->bytes.size();
  frames.body = zmq::message_t(data, size, release, held.release());
  return frames;
}

base::Status Outbox::request(std::string_view target, wire::Message message, Requester requester,
                             caf::execution_unit* unit) {
  if (!open()) return fail(ErrorCode::kUnavailable, "the link is down");
  if (core_->requests.fetch_add(1, std::memory_order_relaxed) >= core_->settings.requests_max) {
    core_->requests.fetch_sub(1, std::memory_order_relaxed);
    return fail(ErrorCode::kOverloaded, "too many requests wait for an answer");
  }
  const std::uint64_t id = core_->next_request.fetch_add(1, std::memory_order_relaxed);
  if (direct_) {
    auto sent = direct_->request(id, target, std::move(message), std::move(requester), unit);
    if (!sent) core_->requests.fetch_sub(1, std::memory_order_relaxed);
    return sent;
  }
  wire::Envelope envelope = core_->envelope(FrameKind::kRequest);
  envelope.request_id = id;
  envelope.target = target;
  if (core_->wall_clock) {
    const auto deadline =
        core_->wall_clock() + std::chrono::milliseconds(core_->settings.request_timeout_ms);
    envelope.deadline_unix_ns =
        std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch()).count();
  }
  if (const auto* generate = std::get_if<wire::Generate>(&message)) {
    envelope.trace = generate->trace;
  }
  Outgoing outgoing{
      shared_from_this(), FrameKind::kRequest, envelope.request_id, std::move(requester), {}};
  auto built = frames(std::move(envelope), message);
  if (built && built->body.size() <= wire::kMessageBytesMax) {
    outgoing.frames = std::move(*built);
    post(std::move(outgoing));
    return {};
  }
  core_->requests.fetch_sub(1, std::memory_order_relaxed);
  if (built) return fail(ErrorCode::kInvalidArgument, "the message is too large");
  return fail(ErrorCode::kOverloaded, "too much waits for this peer");
}

void Outbox::cast(std::string_view target, wire::Message message, caf::execution_unit* unit) {
  if (!open()) return;
  if (direct_) return direct_->cast(target, std::move(message), unit);
  wire::Envelope envelope = core_->envelope(FrameKind::kCast);
  envelope.target = target;
  auto built = frames(std::move(envelope), message);
  if (!built || built->body.size() > wire::kMessageBytesMax) return overflow();
  post({shared_from_this(), FrameKind::kCast, 0, {}, std::move(*built)});
}

void Outbox::reply(std::uint64_t request_id, wire::Message message, caf::execution_unit* unit) {
  if (!open()) return;
  if (direct_) return direct_->reply(request_id, std::move(message), unit);
  const bool is_error = std::holds_alternative<wire::ErrorBody>(message);
  wire::Envelope envelope = core_->envelope(is_error ? FrameKind::kError : FrameKind::kReply);
  envelope.request_id = request_id;
  const FrameKind kind = envelope.kind;
  auto built = frames(envelope, message);
  if (built && built->body.size() > wire::kMessageBytesMax) {
    built.reset();
    return reply(request_id, wire::ErrorBody{{ErrorCode::kInternal, "the answer is too large"}},
                 unit);
  }
  if (!built) return overflow();
  post({shared_from_this(), kind, request_id, {}, std::move(*built)});
}

void Outbox::overflow() {
  if (open_.exchange(false, std::memory_order_acq_rel)) {
    core_->queue.push(Overflow{shared_from_this()});
  }
}

void Outbox::post(Outgoing outgoing) {
  LaneItem item(std::move(outgoing));
  if (core_->queue.push(std::move(item))) return;
  // The lane has ended: this is the end of its last link.
  auto& lost = std::get<Outgoing>(item);
  if (lost.kind != FrameKind::kRequest) return;
  core_->requests.fetch_sub(1, std::memory_order_relaxed);
  fail_request(lost.requester, {ErrorCode::kUnavailable, "the node has stopped"});
}

}  // namespace conclave::fabric
