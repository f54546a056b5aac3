#include "conclave/fabric/call_server.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <unordered_map>
#include <utility>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/base/check.hpp"
#include "context_internal.hpp"
#include "direct_registry.hpp"
#include "server_links.hpp"
#include "wakeup.hpp"
#include "wire_time.hpp"

namespace conclave::fabric {

using base::Error;
using base::ErrorCode;
using base::fail;
using std::chrono::steady_clock;
using Time = steady_clock::time_point;

namespace {

constexpr EventPoller::Token kWake = 0;
static_assert(kWake < ServerLinks::kFirstToken);
/// Payload memory that waits for the next call: two calls of 4096 rows of 4096 floats.
constexpr std::size_t kKeptBytesMax = std::size_t{128} << 20;

}  // namespace

class CallServer::Impl final : public ServerLinks::Listener {
 public:
  Impl(Context& context, std::string node_name, std::uint64_t incarnation,
       const DataSettings& settings, const Limits& limits, WallClock wall_clock)
      : shared_{context.internal(),
                std::move(node_name),
                incarnation,
                settings,
                limits,
                EventPoller(),
                DataMetrics(context.metrics(), End::kServer)},
        time_(std::move(wall_clock)),
        links_(shared_, *this) {}

  ~Impl() {
    if (direct_) shared_.context.direct().remove(direct_name_);
  }

  base::Status start() {
    if (wakeup_.ok() && shared_.poller.ok() && shared_.poller.add(wakeup_.descriptor(), kWake)) {
      return {};
    }
    return fail(ErrorCode::kUnavailable, "the system has no descriptor left");
  }

  base::Result<std::string> listen(const std::string& address) { return links_.listen(address); }
  base::Status serve_direct(const std::string& name, DirectTarget::Handler handler);
  std::span<IncomingCall* const> poll(Time until);
  void answer(IncomingCall& call, const wire::ExpertReply& reply);
  void wake() { wakeup_.signal(); }
  [[nodiscard]] std::size_t peers() const {
    return links_.peers() + (direct_ ? direct_->clients() : 0);
  }
  void drain();

  void requested(const ServerLinks::Request& request) override;

 private:
  struct Refused {
    Outcome outcome;
    Error error;
  };
  using Taken = tl::expected<std::unique_ptr<TakenCall>, Refused>;

  EventPoller::Patience patience_until(Time next);
  Taken take(const ServerLinks::Request& request);
  static base::Status place_framed(TakenCall& call, const wire::CallLayout& layout,
                                   zmq::message_t* payload, BufferPool& pool);
  static base::Status place_shared(TakenCall& call, const wire::CallLayout& layout,
                                   std::uint64_t offset);

  ServerShared shared_;
  const WireTime time_;
  const std::shared_ptr<BufferPool> pool_ = BufferPool::create(kKeptBytesMax);
  Wakeup wakeup_;
  ServerLinks links_;

  std::string direct_name_;
  std::shared_ptr<DirectTarget> direct_;

  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::unique_ptr<TakenCall>> calls_;  // by id
  std::uint64_t bytes_ = 0;                                              // of all calls
  std::vector<IncomingCall*> fresh_;
  std::vector<IncomingCall*> handed_;
  bool woken_ = false;
  bool has_answered_near_ = false;  // and has not waited since
  std::atomic<bool> draining_{false};
};

// ---- Calls in ----

void CallServer::Impl::requested(const ServerLinks::Request& request) {
  Taken taken = take(request);
  if (taken) {
    fresh_.push_back(taken->get());
    bytes_ += (*taken)->charged_bytes;
    shared_.metrics.received(request.road, (*taken)->payload.size());
    const std::uint64_t id = (*taken)->id;
    calls_.emplace(id, std::move(*taken));
    return;
  }
  const Refused& refused = taken.error();
  shared_.metrics.ended(request.road, refused.outcome);
  if (refused.outcome == Outcome::kInvalid) {
    shared_.context.refused(Refusal::kMalformed, request.peer->name, refused.error.message);
  } else if (refused.outcome == Outcome::kOverloaded) {
    shared_.context.refused(Refusal::kOverloaded, request.peer->name, refused.error.message);
  }
  wire::ExpertReply reply;
  reply.ok = false;
  reply.error = refused.error;
  links_.reply(request.peer, request.road, request.envelope.request_id, reply, 0, {});
}

CallServer::Impl::Taken CallServer::Impl::take(const ServerLinks::Request& request) {
  const auto invalid = [](Error error) {
    return tl::unexpected<Refused>({Outcome::kInvalid, std::move(error)});
  };
  if (draining_) {
    return tl::unexpected<Refused>(
        {Outcome::kUnavailable, {ErrorCode::kUnavailable, "the worker drains"}});
  }
  if (request.envelope.type != wire::kTypeOf<wire::ExpertCall>) {
    return invalid({ErrorCode::kInvalidArgument, "a request that is no expert call"});
  }
  const auto message = wire::decode(request.envelope.type, request.body);
  if (!message) return invalid(message.error());
  auto call = std::make_unique<TakenCall>();
  call->call = std::get<wire::ExpertCall>(*message);
  const auto layout = wire::layout_of(call->call);
  if (!layout) return invalid(layout.error());
  if (request.envelope.payload_bytes != layout->bytes) {
    return invalid({ErrorCode::kInvalidArgument,
                    "a payload of " + std::to_string(request.envelope.payload_bytes) +
                        " bytes, not " + std::to_string(layout->bytes)});
  }
  call->arrived = steady_clock::now();
  call->deadline = time_.from_wire(request.envelope.deadline_unix_ns);
  if (call->deadline <= call->arrived) {
    return tl::unexpected<Refused>(
        {Outcome::kDeadline, {ErrorCode::kDeadlineExceeded, "passed before the worker saw it"}});
  }
  call->charged_bytes = layout->bytes + layout->reply_bytes;
  // Answers that a slow router has not read yet count as well.
  const std::uint64_t used = std::max<std::uint64_t>(bytes_, pool_->lent_bytes());
  if (calls_.size() >= shared_.limits.calls_max ||
      used + call->charged_bytes > shared_.limits.bytes_max) {
    return tl::unexpected<Refused>(
        {Outcome::kOverloaded, {ErrorCode::kOverloaded, "too many calls wait"}});
  }
  call->id = next_id_++;
  call->request_id = request.envelope.request_id;
  call->trace = request.envelope.trace;
  call->road = request.road;
  call->from = request.peer;
  call->peer = request.peer->name;
  const base::Status placed = request.road == Road::kShared
                                  ? place_shared(*call, *layout, request.offset)
                                  : place_framed(*call, *layout, request.payload, *pool_);
  if (!placed) return invalid(placed.error());
  return call;
}

base::Status CallServer::Impl::place_framed(TakenCall& call, const wire::CallLayout& layout,
                                            zmq::message_t* payload, BufferPool& pool) {
  if (payload == nullptr || payload->size() != layout.bytes) {
    return fail(ErrorCode::kInvalidArgument, "a payload frame of the wrong size");
  }
  if (reinterpret_cast<std::uintptr_t>(payload->data()) % base::kCacheLine == 0) {
    call.payload_frame = std::move(*payload);
    call.payload = frame_bytes(call.payload_frame);
  } else {
    call.payload_copy = pool.get(layout.bytes);
    std::ranges::copy(frame_bytes(*payload), call.payload_copy.bytes().begin());
    call.payload = call.payload_copy.bytes();
  }
  call.pairs = pairs_of(call.call, call.payload);
  CONCLAVE_TRY_VOID(check_pairs(call.pairs, call.call.rows));
  call.reply_buffer = pool.get(layout.reply_bytes);
  call.reply = call.reply_buffer.bytes();
  return {};
}

// The router can write to all of this memory while we read it.
base::Status CallServer::Impl::place_shared(TakenCall& call, const wire::CallLayout& layout,
                                            std::uint64_t offset) {
  const std::span<std::byte> memory = call.from->segment->bytes();
  const std::size_t needed = block_bytes(layout);
  if (offset % base::kCacheLine != 0 || needed > memory.size() || offset > memory.size() - needed) {
    return fail(ErrorCode::kInvalidArgument, "a payload outside of the shared segment");
  }
  const std::span<std::byte> block = memory.subspan(offset, needed);
  const auto pairs = pairs_of(call.call, block);
  call.pairs_copy.assign(pairs.begin(), pairs.end());
  call.pairs = call.pairs_copy;
  call.payload = block.first(layout.bytes);
  call.reply = block.subspan(reply_offset(layout), layout.reply_bytes);
  return check_pairs(call.pairs, call.call.rows);
}

// A router of this host that has its answer calls again soon.
EventPoller::Patience CallServer::Impl::patience_until(Time next) {
  if (!has_answered_near_ || next <= steady_clock::now()) return EventPoller::Patience::kSleep;
  has_answered_near_ = false;
  return EventPoller::Patience::kLookFirst;
}

std::span<IncomingCall* const> CallServer::Impl::poll(Time until) {
  handed_.clear();
  woken_ = false;
  for (bool first = true;; first = false) {
    links_.tick(steady_clock::now());
    const bool look_only = !fresh_.empty() || woken_;
    if (look_only && !first) break;
    const Time next = look_only ? Time::min() : std::min(until, links_.due());
    for (const EventPoller::Token token : shared_.poller.wait(next, patience_until(next))) {
      if (token == kWake) {
        wakeup_.clear();
        woken_ = true;
      } else {
        links_.ready(token);
      }
    }
    if (fresh_.empty() && !woken_ && steady_clock::now() >= until) break;
  }
  std::swap(handed_, fresh_);
  return handed_;
}

// ---- Answers out ----

void CallServer::Impl::answer(IncomingCall& incoming, const wire::ExpertReply& reply) {
  auto& served = static_cast<ServedCall&>(incoming);
  if (served.direct != nullptr) {
    *served.direct = {true, reply};
    return;
  }
  const auto found = calls_.find(incoming.id);
  CONCLAVE_CHECK(found != calls_.end() && found->second.get() == &incoming);
  TakenCall& call = *found->second;
  const std::size_t bytes = reply.ok ? call.reply.size() : 0;
  shared_.metrics.ended(call.road, call.from->gone ? Outcome::kUnavailable
                                   : reply.ok      ? Outcome::kOk
                                                   : Outcome::kRefused);
  shared_.metrics.sent(call.road, bytes);
  bytes_ -= call.charged_bytes;
  has_answered_near_ |= call.road == Road::kShared;
  links_.reply(call.from, call.road, call.request_id, reply, bytes, std::move(call.reply_buffer));
  calls_.erase(found);
}

// ---- Direct ----

base::Status CallServer::Impl::serve_direct(const std::string& name,
                                            DirectTarget::Handler handler) {
  if (direct_) return fail(ErrorCode::kFailedPrecondition, "it is called directly already");
  auto target = std::make_shared<DirectTarget>(std::move(handler));
  if (draining_) target->drain();
  CONCLAVE_TRY_VOID(shared_.context.direct().add(name, target));
  direct_name_ = name;
  direct_ = std::move(target);
  return {};
}

void CallServer::Impl::drain() {
  draining_ = true;
  if (direct_) direct_->drain();
}

// ---- The server ----

base::Result<std::unique_ptr<CallServer>> CallServer::create(
    Context& context, std::string node_name, std::uint64_t incarnation,
    const DataSettings& settings, const Limits& limits, WallClock wall_clock) {
  auto impl = std::make_unique<Impl>(context, std::move(node_name), incarnation, settings, limits,
                                     std::move(wall_clock));
  CONCLAVE_TRY_VOID(impl->start());
  return std::unique_ptr<CallServer>(new CallServer(std::move(impl)));
}

CallServer::CallServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CallServer::~CallServer() = default;
base::Result<std::string> CallServer::listen(const std::string& address) {
  return impl_->listen(address);
}
base::Status CallServer::serve_direct(const std::string& name,
                                      std::function<void(std::span<IncomingCall* const>)> handler) {
  return impl_->serve_direct(name, std::move(handler));
}
std::span<IncomingCall* const> CallServer::poll(Time until) { return impl_->poll(until); }
void CallServer::answer(IncomingCall& call, const wire::ExpertReply& reply) {
  impl_->answer(call, reply);
}
void CallServer::wake() { impl_->wake(); }
std::size_t CallServer::peers() const { return impl_->peers(); }
void CallServer::drain() { impl_->drain(); }

}  // namespace conclave::fabric
