#include "conclave/fabric/call_client.hpp"

#include <algorithm>
#include <atomic>
#include <unordered_map>
#include <utility>

#include "buffer_pool.hpp"
#include "client_link.hpp"
#include "conclave/base/aligned.hpp"
#include "conclave/base/check.hpp"
#include "context_internal.hpp"
#include "direct_registry.hpp"
#include "wakeup.hpp"
#include "wire_time.hpp"

namespace conclave::fabric {

using base::Error;
using base::ErrorCode;
using base::fail;
using Time = std::chrono::steady_clock::time_point;
using std::chrono::steady_clock;

namespace {

constexpr std::string_view kDirect = "direct://";
/// Tokens: 0 is the wake-up, link n has kPartsPerLink from n * kPartsPerLink.
constexpr EventPoller::Token kWake = 0;
constexpr EventPoller::Token kPartsPerLink = 4;
/// Payload memory that waits for the next call: two calls of 4096 rows of 4096 floats.
constexpr std::size_t kKeptBytesMax = std::size_t{128} << 20;

/// A part of a link's segment; given back when this dies.
class Block {
 public:
  Block() = default;
  Block(std::shared_ptr<CallMemory> memory, std::size_t offset)
      : memory_(std::move(memory)), offset_(offset) {}
  ~Block() {
    if (memory_) memory_->blocks.give_back(offset_);
  }
  Block(Block&& other) noexcept : memory_(std::move(other.memory_)), offset_(other.offset_) {}
  Block& operator=(Block&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(offset_, other.offset_);
    return *this;
  }

  [[nodiscard]] explicit operator bool() const { return memory_ != nullptr; }
  [[nodiscard]] std::size_t offset() const { return offset_; }
  [[nodiscard]] std::span<std::byte> bytes(std::size_t from, std::size_t count) const {
    return memory_->segment.bytes().subspan(offset_ + from, count);
  }

 private:
  std::shared_ptr<CallMemory> memory_;
  std::size_t offset_ = 0;
};

struct Call {
  enum class State : std::uint8_t {
    kPrepared,
    kSent,
    kReplied,    // until release()
    kAbandoned,  // cancelled or failed, but the worker may still write its answer
  };
  CallId id = 0;
  DataLinkId link = 0;
  State state = State::kPrepared;
  bool link_lost = false;  // while it was prepared
  Road road = Road::kFrames;
  wire::ExpertCall call;
  wire::CallLayout layout;
  Time deadline = Time::max();

  Block block;            // of the shared road
  Buffer buffer;          // payload, and on the direct road the reply behind it
  zmq::message_t answer;  // y that came as a frame, as it came or
  Buffer answer_copy;     // moved to a cache line
};

/// A worker of this process.
struct DirectLink {
  std::string name;
  std::shared_ptr<DirectTarget> target;  // null: nobody serves the name
};

struct Link {
  std::unique_ptr<ClientLink> remote;  // or
  std::unique_ptr<DirectLink> direct;
  std::uint32_t calls = 0;
};

/// What is between the parts of a payload leaves the process: it must not be old memory.
void clear_gaps(const wire::CallLayout& layout, std::span<std::byte> payload) {
  for (const std::size_t part : {layout.quants, layout.scales, layout.floats}) {
    if (part > 0)
      std::ranges::fill(payload.subspan(part - base::kCacheLine, base::kCacheLine), std::byte{});
  }
}

bool is_cache_aligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % base::kCacheLine == 0;
}

}  // namespace

class CallClient::Impl final : public ClientLink::Listener {
 public:
  Impl(Context& context, std::string node_name, std::uint64_t incarnation,
       const DataSettings& settings, WallClock wall_clock)
      : shared_{context.internal(), std::move(node_name),
                incarnation,        settings,
                EventPoller(),      DataMetrics(context.metrics(), End::kClient)},
        time_(std::move(wall_clock)) {}

  ~Impl() {
    for (auto& [id, link] : links_) leave(link);
  }

  base::Status start() {
    if (!wakeup_->ok() || !shared_.poller.ok() ||
        !shared_.poller.add(wakeup_->descriptor(), kWake)) {
      return fail(ErrorCode::kUnavailable, "the system has no descriptor left");
    }
    shared_.context.direct().watch(wakeup_);
    return {};
  }

  base::Result<DataLinkId> connect(const std::string& address);
  void disconnect(DataLinkId id);
  bool is_up(DataLinkId id) const;
  bool is_near(DataLinkId id) const;
  base::Result<CallBuffer> prepare(DataLinkId id, const wire::ExpertCall& call);
  void send(CallId id, const wire::TraceContext& trace, Time deadline);
  void cancel(CallId id);
  std::span<const CallEvent> poll(Time until);
  void wake() {
    wake_asked_ = true;
    wakeup_->signal();
  }
  void release(CallId id);

  void link_up(ClientLink& link) override { news(CallEvent::Kind::kUp, link.id(), {}); }
  void link_down(ClientLink& link, const Error& why) override { lose(link.id(), why); }
  void replied(ClientLink& link, const wire::Envelope& envelope, std::span<const std::byte> body,
               zmq::message_t* payload, Road road) override;

 private:
  using Calls = std::unordered_map<CallId, Call>;

  CallBuffer place(Call& call, Link& link);
  void send_direct(Call& call, DirectTarget& target, const wire::TraceContext& trace);
  [[nodiscard]] EventPoller::Patience patience() const;
  void take_ready(Time until);
  void keep_house();
  void look_for_direct();
  void expire(Time now);
  void lose(DataLinkId id, const Error& why);
  void news(CallEvent::Kind kind, DataLinkId link, Error error);
  void failed(Call& call, Outcome outcome, Error error);
  void drop(Calls::iterator call);
  void leave(Link& link);
  base::Result<std::span<const std::byte>> take_payload(Call& call, const wire::Envelope& envelope,
                                                        zmq::message_t* frame);

  ClientShared shared_;
  const WireTime time_;
  const std::shared_ptr<BufferPool> pool_ = BufferPool::create(kKeptBytesMax);
  const std::shared_ptr<Wakeup> wakeup_ = std::make_shared<Wakeup>();

  DataLinkId next_link_ = 1;
  CallId next_call_ = 1;
  std::unordered_map<DataLinkId, Link> links_;
  Calls calls_;
  std::vector<CallEvent> pending_;
  std::vector<CallEvent> told_;
  std::atomic<bool> wake_asked_{false};  // by wake(), not by a direct server that came or went
  bool woken_ = false;
  Time next_deadline_ = Time::max();  // no deadline is before it
};

// ---- Links ----

base::Result<DataLinkId> CallClient::Impl::connect(const std::string& address) {
  const DataLinkId id = next_link_;
  Link link;
  if (address.starts_with(kDirect) && address.size() > kDirect.size()) {
    link.direct = std::make_unique<DirectLink>();
    link.direct->name = address.substr(kDirect.size());
    links_.emplace(id, std::move(link));
    ++next_link_;
    look_for_direct();
    return id;
  }
  if (!is_address(address) || is_inproc(address)) {
    return fail(ErrorCode::kInvalidArgument, "not an address of a worker: " + address);
  }
  link.remote = std::make_unique<ClientLink>(shared_, id, address,
                                             EventPoller::Token{id} * kPartsPerLink, *this);
  CONCLAVE_TRY_VOID(link.remote->open());
  links_.emplace(id, std::move(link));
  ++next_link_;
  return id;
}

void CallClient::Impl::leave(Link& link) {
  if (!link.direct || !link.direct->target) return;
  link.direct->target->detach();
  link.direct->target.reset();
  shared_.metrics.link_down(Road::kDirect);
}

void CallClient::Impl::disconnect(DataLinkId id) {
  const auto link = links_.find(id);
  if (link == links_.end()) return;
  for (auto& [call_id, call] : calls_) {
    if (call.link != id) continue;
    const bool open = call.state == Call::State::kPrepared || call.state == Call::State::kSent;
    if (open) shared_.metrics.ended(call.road, Outcome::kCancelled);
  }
  std::erase_if(calls_, [id](const auto& entry) { return entry.second.link == id; });
  std::erase_if(pending_, [id](const CallEvent& event) { return event.link == id; });
  leave(link->second);
  links_.erase(link);
}

bool CallClient::Impl::is_up(DataLinkId id) const {
  const auto link = links_.find(id);
  if (link == links_.end()) return false;
  return link->second.remote ? link->second.remote->is_up()
                             : link->second.direct->target != nullptr;
}

bool CallClient::Impl::is_near(DataLinkId id) const {
  const auto link = links_.find(id);
  return link != links_.end() && (link->second.direct || link->second.remote->memory());
}

void CallClient::Impl::look_for_direct() {
  for (auto& [id, link] : links_) {
    if (!link.direct) continue;
    DirectLink& direct = *link.direct;
    if (direct.target && direct.target->closed()) {
      leave(link);
      lose(id, {ErrorCode::kUnavailable, "the worker is gone"});
    }
    if (direct.target) continue;
    direct.target = shared_.context.direct().find(direct.name);
    if (!direct.target) continue;
    direct.target->attach();
    shared_.metrics.link_up(Road::kDirect);
    news(CallEvent::Kind::kUp, id, {});
  }
}

void CallClient::Impl::news(CallEvent::Kind kind, DataLinkId link, Error error) {
  CallEvent event;
  event.kind = kind;
  event.link = link;
  event.error = std::move(error);
  pending_.push_back(std::move(event));
}

void CallClient::Impl::lose(DataLinkId id, const Error& why) {
  news(CallEvent::Kind::kDown, id, why);
  for (auto call = calls_.begin(); call != calls_.end();) {
    const auto next = std::next(call);
    if (call->second.link == id) {
      switch (call->second.state) {
        case Call::State::kPrepared:
          call->second.link_lost = true;  // the caller may still be filling its memory
          break;
        case Call::State::kSent:
          failed(call->second, Outcome::kUnavailable, why);
          drop(call);
          break;
        case Call::State::kAbandoned:
          drop(call);
          break;
        case Call::State::kReplied:
          break;
      }
    }
    call = next;
  }
}

// ---- Calls ----

base::Result<CallBuffer> CallClient::Impl::prepare(DataLinkId id, const wire::ExpertCall& call) {
  CONCLAVE_TRY(const wire::CallLayout layout, wire::layout_of(call));
  const auto link = links_.find(id);
  if (link == links_.end() || !is_up(id)) return fail(ErrorCode::kUnavailable, "the link is down");
  if (link->second.calls >= shared_.settings.calls_max) {
    return fail(ErrorCode::kOverloaded,
                std::to_string(shared_.settings.calls_max) + " calls are under way on this link");
  }
  const CallId call_id = next_call_++;
  Call& made = calls_[call_id];
  made.id = call_id;
  made.link = id;
  made.call = call;
  made.layout = layout;
  ++link->second.calls;
  const CallBuffer buffer = place(made, link->second);
  clear_gaps(layout, buffer.payload);
  return buffer;
}

CallBuffer CallClient::Impl::place(Call& call, Link& link) {
  const wire::CallLayout& layout = call.layout;
  if (link.direct) {
    call.road = Road::kDirect;
    call.buffer = pool_->get(block_bytes(layout));
    return {call.id, call.buffer.bytes().first(layout.bytes)};
  }
  if (const auto& memory = link.remote->memory()) {
    if (const auto offset = memory->blocks.take(block_bytes(layout))) {
      Block block(memory, *offset);
      if (memory->segment.reserve(*offset + block_bytes(layout))) {
        call.road = Road::kShared;
        call.block = std::move(block);
        return {call.id, call.block.bytes(0, layout.bytes)};
      }
    }
  }
  call.road = Road::kFrames;
  call.buffer = pool_->get(layout.bytes);
  return {call.id, call.buffer.bytes()};
}

void CallClient::Impl::send(CallId id, const wire::TraceContext& trace, Time deadline) {
  const auto found = calls_.find(id);
  CONCLAVE_CHECK(found == calls_.end() || found->second.state == Call::State::kPrepared);
  if (found == calls_.end()) return;  // its link was disconnected
  Call& call = found->second;
  call.state = Call::State::kSent;
  call.deadline = deadline;
  if (call.link_lost) {
    failed(call, Outcome::kUnavailable, {ErrorCode::kUnavailable, "the link is down"});
    return drop(found);
  }
  if (deadline <= steady_clock::now()) {
    failed(call, Outcome::kDeadline, {ErrorCode::kDeadlineExceeded, "passed before it was sent"});
    return drop(found);
  }
  shared_.metrics.sent(call.road, call.layout.bytes);
  Link& link = links_.at(call.link);
  if (link.direct) return send_direct(call, *link.direct->target, trace);

  next_deadline_ = std::min(next_deadline_, deadline);
  wire::Envelope envelope;
  envelope.kind = wire::FrameKind::kRequest;
  envelope.type = wire::kTypeOf<wire::ExpertCall>;
  envelope.request_id = id;
  envelope.incarnation = shared_.incarnation;
  envelope.deadline_unix_ns = time_.to_wire(deadline);
  envelope.trace = trace;
  envelope.payload_bytes = call.layout.bytes;
  if (call.road == Road::kShared) {
    link.remote->send_shared(envelope, call.call, call.block.offset());
  } else {
    link.remote->send_framed(envelope, call.call, std::move(call.buffer));
  }
}

void CallClient::Impl::send_direct(Call& call, DirectTarget& target,
                                   const wire::TraceContext& trace) {
  const std::span<std::byte> bytes = call.buffer.bytes();
  DirectAnswer answer;
  ServedCall served;
  served.id = call.id;
  served.call = call.call;
  served.payload = bytes.first(call.layout.bytes);
  served.pairs = pairs_of(call.call, served.payload);
  served.reply = bytes.subspan(reply_offset(call.layout), call.layout.reply_bytes);
  served.arrived = steady_clock::now();
  served.deadline = call.deadline;
  served.trace = trace;
  served.peer = shared_.node_name;
  served.direct = &answer;
  base::Status status = check_pairs(served.pairs, call.call.rows);
  if (status) status = target.call(served);
  if (!status) answer.reply = {.ok = false, .error = std::move(status.error())};

  shared_.metrics.ended(Road::kDirect, answer.reply.ok ? Outcome::kOk : Outcome::kRefused);
  call.state = Call::State::kReplied;
  CallEvent event;
  event.kind = CallEvent::Kind::kReply;
  event.link = call.link;
  event.call = call.id;
  if (answer.reply.ok) {
    event.payload = served.reply;
    shared_.metrics.received(Road::kDirect, served.reply.size());
  }
  event.reply = std::move(answer.reply);
  pending_.push_back(std::move(event));
}

void CallClient::Impl::failed(Call& call, Outcome outcome, Error error) {
  shared_.metrics.ended(call.road, outcome);
  news(CallEvent::Kind::kFailed, call.link, std::move(error));
  pending_.back().call = call.id;
}

void CallClient::Impl::drop(Calls::iterator call) {
  if (const auto link = links_.find(call->second.link); link != links_.end()) --link->second.calls;
  calls_.erase(call);
}

void CallClient::Impl::cancel(CallId id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  switch (found->second.state) {
    case Call::State::kSent:
      found->second.state = Call::State::kAbandoned;
      shared_.metrics.ended(found->second.road, Outcome::kCancelled);
      return;
    case Call::State::kPrepared:
      shared_.metrics.ended(found->second.road, Outcome::kCancelled);
      return drop(found);
    case Call::State::kReplied:
      std::erase_if(pending_, [id](const CallEvent& event) { return event.call == id; });
      return drop(found);
    case Call::State::kAbandoned:
      return;
  }
}

void CallClient::Impl::release(CallId id) {
  const auto found = calls_.find(id);
  if (found != calls_.end() && found->second.state == Call::State::kReplied) drop(found);
}

void CallClient::Impl::expire(Time now) {
  if (now < next_deadline_) return;
  next_deadline_ = Time::max();
  for (auto& [id, call] : calls_) {
    if (call.state != Call::State::kSent) continue;
    if (call.deadline <= now) {
      failed(call, Outcome::kDeadline, {ErrorCode::kDeadlineExceeded, "no answer came in time"});
      call.state = Call::State::kAbandoned;
    } else {
      next_deadline_ = std::min(next_deadline_, call.deadline);
    }
  }
}

// ---- Answers ----

// Where y is: its whole size, on a cache line.
base::Result<std::span<const std::byte>> CallClient::Impl::take_payload(
    Call& call, const wire::Envelope& envelope, zmq::message_t* frame) {
  const std::size_t bytes = call.layout.reply_bytes;
  if (envelope.payload_bytes != bytes || (call.road == Road::kShared) != (frame == nullptr) ||
      (frame != nullptr && frame->size() != bytes)) {
    return fail(ErrorCode::kCorruptData, "an answer of the wrong size");
  }
  if (call.road == Road::kShared) return call.block.bytes(reply_offset(call.layout), bytes);
  if (is_cache_aligned(frame->data())) {
    call.answer = std::move(*frame);
    return frame_bytes(call.answer);
  }
  call.answer_copy = pool_->get(bytes);
  std::ranges::copy(frame_bytes(*frame), call.answer_copy.bytes().begin());
  return call.answer_copy.bytes();
}

void CallClient::Impl::replied(ClientLink& link, const wire::Envelope& envelope,
                               std::span<const std::byte> body, zmq::message_t* payload,
                               Road road) {
  const auto found = calls_.find(envelope.request_id);
  if (found == calls_.end() || found->second.link != link.id() || found->second.road != road ||
      found->second.state == Call::State::kPrepared ||
      found->second.state == Call::State::kReplied) {
    return shared_.context.refused(Refusal::kStale, "worker", "an answer that nobody waits for");
  }
  Call& call = found->second;
  if (call.state == Call::State::kAbandoned) {
    shared_.metrics.ended(call.road, Outcome::kLate);
    return drop(found);
  }
  CallEvent event;
  event.kind = CallEvent::Kind::kReply;
  event.link = call.link;
  event.call = call.id;
  auto message = wire::decode(wire::kTypeOf<wire::ExpertReply>, body);
  Error problem;
  if (!message) {
    problem = std::move(message.error());
  } else if (event.reply = std::get<wire::ExpertReply>(std::move(*message)); event.reply.ok) {
    const auto bytes = take_payload(call, envelope, payload);
    if (bytes) {
      event.payload = *bytes;
    } else {
      problem = bytes.error();
    }
  }
  if (!problem.message.empty()) {
    shared_.context.refused(Refusal::kMalformed, "worker", problem.message);
    failed(call, Outcome::kInvalid, {ErrorCode::kCorruptData, problem.message});
    return drop(found);
  }
  call.state = Call::State::kReplied;
  shared_.metrics.ended(call.road, event.reply.ok ? Outcome::kOk : Outcome::kRefused);
  shared_.metrics.received(call.road, event.payload.size());
  pending_.push_back(std::move(event));
}

// ---- The loop ----

void CallClient::Impl::keep_house() {
  const Time now = steady_clock::now();
  for (auto& [id, link] : links_) {
    if (link.remote) link.remote->tick(now);
  }
  expire(now);
}

// A worker of this host that has a call answers soon.
EventPoller::Patience CallClient::Impl::patience() const {
  const bool is_near = std::ranges::any_of(calls_, [](const auto& entry) {
    return entry.second.state == Call::State::kSent && entry.second.road == Road::kShared;
  });
  return is_near ? EventPoller::Patience::kLookFirst : EventPoller::Patience::kSleep;
}

void CallClient::Impl::take_ready(Time until) {
  for (const EventPoller::Token token : shared_.poller.wait(until, patience())) {
    if (token == kWake) {
      wakeup_->clear();
      if (wake_asked_.exchange(false)) woken_ = true;
      look_for_direct();
      continue;
    }
    const auto link = links_.find(static_cast<DataLinkId>(token / kPartsPerLink));
    if (link == links_.end()) continue;
    link->second.remote->ready(static_cast<ClientLink::Part>(token % kPartsPerLink));
  }
}

std::span<const CallEvent> CallClient::Impl::poll(Time until) {
  told_.clear();
  woken_ = false;
  for (bool first = true;; first = false) {
    keep_house();
    // What is known already does not wait, but one look collects what came meanwhile.
    const bool look_only = !pending_.empty() || woken_;
    if (look_only && !first) break;
    Time next = std::min(until, next_deadline_);
    for (const auto& [id, link] : links_) {
      if (link.remote) next = std::min(next, link.remote->due());
    }
    take_ready(look_only ? Time::min() : next);
    if (pending_.empty() && !woken_ && steady_clock::now() >= until) {
      keep_house();  // a deadline may be `until` itself
      break;
    }
  }
  std::swap(told_, pending_);
  return told_;
}

// ---- The client ----

base::Result<std::unique_ptr<CallClient>> CallClient::create(Context& context,
                                                             std::string node_name,
                                                             std::uint64_t incarnation,
                                                             const DataSettings& settings,
                                                             WallClock wall_clock) {
  auto impl = std::make_unique<Impl>(context, std::move(node_name), incarnation, settings,
                                     std::move(wall_clock));
  CONCLAVE_TRY_VOID(impl->start());
  return std::unique_ptr<CallClient>(new CallClient(std::move(impl)));
}

CallClient::CallClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CallClient::~CallClient() = default;
base::Result<DataLinkId> CallClient::connect(const std::string& address) {
  return impl_->connect(address);
}
void CallClient::disconnect(DataLinkId link) { impl_->disconnect(link); }
bool CallClient::is_up(DataLinkId link) const { return impl_->is_up(link); }
bool CallClient::is_near(DataLinkId link) const { return impl_->is_near(link); }
base::Result<CallBuffer> CallClient::prepare(DataLinkId link, const wire::ExpertCall& call) {
  return impl_->prepare(link, call);
}
void CallClient::send(CallId id, const wire::TraceContext& trace, Time deadline) {
  impl_->send(id, trace, deadline);
}
void CallClient::cancel(CallId id) { impl_->cancel(id); }
std::span<const CallEvent> CallClient::poll(Time until) { return impl_->poll(until); }
void CallClient::release(CallId id) { impl_->release(id); }
void CallClient::wake() { impl_->wake(); }

}  // namespace conclave::fabric
