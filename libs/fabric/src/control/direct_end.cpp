#include "direct_end.hpp"

#include <caf/all.hpp>
#include <chrono>
#include <variant>

#include "caf_message.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/wire/limits.hpp"
#include "lane.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using wire::FrameKind;

namespace {

// Actors may belong to different systems of a process; a unit runs only those of its own.
void enqueue(caf::abstract_actor& actor, caf::mailbox_element_ptr element,
             caf::execution_unit* unit) {
  const bool lend = unit != nullptr && &unit->system() == &actor.home_system();
  actor.enqueue(std::move(element), lend ? unit : nullptr);
}

// What the encoder of a longer way would make of it.
void shorten(wire::Message& message) {
  auto* body = std::get_if<wire::ErrorBody>(&message);
  if (body == nullptr) return;
  std::string& text = body->error.message;
  if (!base::utf8::valid(text)) text = base::utf8::sanitize(text);
  if (text.size() <= wire::kErrorBytesMax) return;
  text.resize(wire::kErrorBytesMax);
  text.resize(text.size() - base::utf8::incomplete_suffix(text));
}

}  // namespace

DirectEnd::Ends DirectEnd::make(Node first) {
  Ends ends{std::make_shared<DirectEnd>(), std::make_shared<DirectEnd>()};
  ends.first->other_ = ends.second;
  ends.second->other_ = ends.first;
  ends.first->attach(std::move(first));
  return ends;
}

// ---- the lane's ----

void DirectEnd::attach(Node node) {
  const std::lock_guard lock(mutex_);
  node_ = std::move(node);
}

void DirectEnd::open(const NodeIdentity& peer, caf::strong_actor_ptr reply_proxy) {
  {
    const std::lock_guard lock(mutex_);
    peer_ = peer;
    reply_proxy_ = std::move(reply_proxy);
  }
  for (;;) {
    std::vector<Incoming> early;
    {
      const std::lock_guard lock(mutex_);
      if (early_.empty()) state_ = State::kOpen;
      early.swap(early_);
    }
    if (early.empty()) return;
    for (Incoming& incoming : early) deliver(std::move(incoming), nullptr);
  }
}

std::vector<Waiting> DirectEnd::close() {
  caf::strong_actor_ptr released;  // after the lock
  std::vector<Incoming> dropped;
  std::vector<Waiting> unanswered;
  const std::lock_guard lock(mutex_);
  state_ = State::kClosed;
  released.swap(reply_proxy_);
  dropped.swap(early_);
  while (auto waiting = waiting_.take_any()) unanswered.push_back(std::move(*waiting));
  while (serving_.take_any()) {
  }
  return unanswered;
}

void DirectEnd::begin_stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
}

bool DirectEnd::serves() const {
  const std::lock_guard lock(mutex_);
  return !serving_.empty();
}

std::vector<Waiting> DirectEnd::expire(Time now) {
  std::vector<Waiting> late;
  const std::lock_guard lock(mutex_);
  while (auto waiting = waiting_.take_expired(now)) late.push_back(std::move(*waiting));
  while (serving_.take_expired(now)) {
  }
  return late;
}

// ---- out ----

base::Status DirectEnd::request(std::uint64_t id, std::string_view target, wire::Message message,
                                Requester requester, caf::execution_unit* unit) {
  const auto peer = other();
  {
    const std::lock_guard lock(mutex_);
    if (!peer || state_ == State::kClosed) return fail(ErrorCode::kUnavailable, "the link is down");
    const Time now = steady_clock::now();
    const auto deadline = now + milliseconds(node_.lane.core->settings.request_timeout_ms);
    waiting_.add(id, deadline, {std::move(requester), now});
    node_.metrics->request_began();
    node_.metrics->sent(FrameKind::kRequest, 0);
  }
  peer->receive({FrameKind::kRequest, id, std::string(target), std::move(message)}, unit);
  return {};
}

void DirectEnd::cast(std::string_view target, wire::Message message, caf::execution_unit* unit) {
  const auto peer = other();
  {
    const std::lock_guard lock(mutex_);
    if (!peer || state_ == State::kClosed) return;
    node_.metrics->sent(FrameKind::kCast, 0);
  }
  peer->receive({FrameKind::kCast, 0, std::string(target), std::move(message)}, unit);
}

void DirectEnd::reply(std::uint64_t id, wire::Message message, caf::execution_unit* unit) {
  shorten(message);
  const bool is_error = std::holds_alternative<wire::ErrorBody>(message);
  const FrameKind kind = is_error ? FrameKind::kError : FrameKind::kReply;
  const auto peer = other();
  std::shared_ptr<NodeCore> waits;  // the lane, for this answer
  {
    const std::lock_guard lock(mutex_);
    if (state_ == State::kClosed || !serving_.take(id)) return;  // nobody waits for it any more
    node_.metrics->sent(kind, 0);
    if (stopping_ && serving_.empty()) waits = node_.lane.core;
  }
  if (peer) peer->receive({kind, id, {}, std::move(message)}, unit);
  if (waits) waits->queue.push(std::function<void()>([] {}));
}

// ---- in ----

void DirectEnd::receive(Incoming incoming, caf::execution_unit* unit) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == State::kNew) {
      if (early_.size() < node_.lane.core->settings.queue_messages) {
        early_.push_back(std::move(incoming));
      } else {
        (void)node_.lane.post([end = shared_from_this()](Lane& lane) { lane.overflowed(end); });
      }
      return;
    }
  }
  deliver(std::move(incoming), unit);
}

void DirectEnd::deliver(Incoming incoming, caf::execution_unit* unit) {
  if (incoming.kind == FrameKind::kRequest || incoming.kind == FrameKind::kCast) {
    serve(std::move(incoming), unit);
  } else {
    finish(std::move(incoming), unit);
  }
}

// Under the lock. A request that is let in counts as being served.
base::Result<Export> DirectEnd::admit(const Incoming& incoming) {
  if (state_ == State::kClosed) return fail(ErrorCode::kUnavailable, "the link is down");
  node_.metrics->received(incoming.kind, 0);
  const NodeSettings& settings = node_.lane.core->settings;
  const bool is_request = incoming.kind == FrameKind::kRequest;
  if (is_request && stopping_) return fail(ErrorCode::kUnavailable, "this node is stopping");
  if (is_request && serving_.size() >= settings.requests_max) {
    node_.context->refused(Refusal::kOverloaded, peer_.name, "too many requests");
    return fail(ErrorCode::kOverloaded, "too many requests of this peer");
  }
  CONCLAVE_TRY(Export target,
               node_.exports->find_for(peer_, incoming.target, wire::type_of(incoming.message),
                                       *node_.context));
  const auto deadline = steady_clock::now() + milliseconds(settings.request_timeout_ms);
  if (is_request) serving_.add(incoming.id, deadline, {});
  return target;
}

void DirectEnd::serve(Incoming incoming, caf::execution_unit* unit) {
  const bool is_request = incoming.kind == FrameKind::kRequest;
  base::Result<Export> target = fail(ErrorCode::kInternal, "");
  caf::strong_actor_ptr sender;
  {
    const std::lock_guard lock(mutex_);
    target = admit(incoming);
    sender = reply_proxy_;
  }
  if (!target) {
    const auto peer = other();
    if (!is_request || !peer) return;
    return peer->receive(
        {FrameKind::kError, incoming.id, {}, wire::ErrorBody{std::move(target).error()}}, unit);
  }
  const auto id = is_request ? caf::make_message_id(incoming.id) : caf::make_message_id();
  // Null only for types that no actor takes, and those no target admits.
  if (auto element = make_element(std::move(sender), id, std::move(incoming.message))) {
    enqueue(*caf::actor_cast<caf::abstract_actor*>(target->actor), std::move(element), unit);
  }
}

void DirectEnd::finish(Incoming incoming, caf::execution_unit* unit) {
  std::optional<Waiting> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting = waiting_.take(incoming.id);
    if (!waiting) return;  // it came after its time
    node_.lane.core->requests.fetch_sub(1, std::memory_order_relaxed);
    node_.metrics->received(incoming.kind, 0);
    node_.metrics->request_ended(steady_clock::now() - waiting->started);
  }
  const Requester& requester = waiting->requester;
  if (auto* error = std::get_if<wire::ErrorBody>(&incoming.message)) {
    return fail_request(requester, std::move(error->error));
  }
  auto element = make_element(nullptr, requester.response_id, std::move(incoming.message));
  if (!element || !requester.actor) return;
  enqueue(*caf::actor_cast<caf::abstract_actor*>(requester.actor), std::move(element), unit);
}

}  // namespace conclave::fabric
