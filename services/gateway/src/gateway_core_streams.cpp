// The part of the core that keeps streams with routers: which one gets a stream, and what becomes
// of it when that one refuses it, is lost, or drains.
#include <algorithm>
#include <utility>

#include "conclave/base/check.hpp"
#include "gateway_core.hpp"

namespace conclave::gateway {

using base::ErrorCode;

namespace {

// A stream that three routers refuse, or that three lose one after the other without a token, is
// not going to be computed: it may well be what takes them down.
constexpr std::size_t kRoutersTriedMax = 3;

// Clients name -10 to 10, and each unit is worth 1,024 places in a router's queue.
constexpr std::int32_t kShadowPriority = 100;

// Another router may take it, or the same one later.
bool may_try_elsewhere(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kOverloaded;
}

}  // namespace

std::optional<RouterId> GatewayCore::choose(const Open& open, const Stream& stream,
                                            std::span<const std::uint64_t> blocks) {
  const std::vector<KnownPrefix> known = prefixes_.find(blocks);
  const auto router = routers_.choose({.model = stream.generate.model,
                                       .version = stream.generate.version,
                                       .resumed = stream.accepted,
                                       .tried = stream.tried,
                                       .prompt_tokens = estimated_tokens(stream.generate),
                                       .known = known,
                                       .session = open.session});
  if (!router) return std::nullopt;
  const auto found = std::ranges::find(known, *router, &KnownPrefix::router);
  if (found != known.end()) metrics_.prefix_chosen(found->tokens);
  return router;
}

bool GatewayCore::dispatch(RequestId id, Open& open, std::size_t prompt) {
  Stream& stream = open.streams[prompt];
  CONCLAVE_CHECK(stream.id == 0);
  const std::vector<std::uint64_t> blocks = prefix_blocks(stream.generate);
  const auto router = choose(open, stream, blocks);
  if (!router) return false;
  prefixes_.note(blocks, *router);
  stream.router = *router;
  stream.tried.push_back(*router);
  stream.id = next_stream_++;
  stream.sequences = stream.unfinished;
  stream.generate.stream = stream.id;
  places_.emplace(stream.id, Place{id, prompt});
  routers_.sequences_opened(*router, stream.sequences);
  stream.log.resume(stream.generate);
  port_.generate(*router, stream.generate);
  stream.generate.resume = {};
  return true;
}

void GatewayCore::release(Stream& stream) {
  if (stream.id == 0) return;
  routers_.sequences_closed(stream.router, stream.sequences);
  places_.erase(stream.id);
  stream.id = 0;
}

void GatewayCore::cancel_at_router(const Stream& stream) {
  if (stream.id != 0) port_.cancel(stream.router, {options_.gateway, stream.id});
}

// Lowest: it waits for all that clients wait for.
void GatewayCore::shadow(const Open& open, const wire::ModelVersion& version, TimePoint now) {
  for (const Stream& stream : open.streams) {
    wire::Generate copy = stream.generate;
    copy.version = version.version;
    copy.model = version.name;
    copy.priority = kShadowPriority;
    copy.echo = copy.logprobs = false;
    copy.top_logprobs = 0;
    const auto router = routers_.choose(
        {.model = copy.model, .version = copy.version, .prompt_tokens = estimated_tokens(copy)});
    copy.stream = next_stream_;
    if (!router || !shadows_.open({copy.stream, *router, copy.choices, copy.choices,
                                   now + options_.request_timeout})) {
      metrics_.shadow_skipped();
      continue;
    }
    ++next_stream_;
    metrics_.shadow_sent();
    routers_.sequences_opened(*router, copy.choices);
    port_.generate(*router, copy);
  }
}

void GatewayCore::refused(std::uint64_t stream, const base::Error& error, TimePoint now) {
  const auto place = places_.find(stream);
  if (place == places_.end()) {
    if (const auto shadow = shadows_.close(stream)) {
      routers_.sequences_closed(shadow->router, shadow->sequences);
    }
    return;
  }
  const auto [id, prompt] = place->second;
  retry(requests_.find(id), prompt, error, now);
}

// A client that waits for its first token can come back; one that has had some waits here.
void GatewayCore::retry(Requests::iterator request, std::size_t prompt, const base::Error& error,
                        TimePoint now) {
  Stream& stream = request->second.streams[prompt];
  release(stream);
  const ApiError told = from_router(error, prompt_field(request->second));
  const bool later = may_try_elsewhere(error.code);
  // It may have begun to drain a moment ago. Who is overloaded says so.
  const bool is_away = error.code == ErrorCode::kUnavailable && !is_experts_missing(told);
  if (stream.accepted || stream.loss) {
    if (!stream.loss) stream.loss = Loss{now, told};
    if (dispatch(request->first, request->second, prompt)) return;
    if (!later || (stream.loss->held && !is_away)) fail(request, told, now);
    return;  // until the next tick
  }
  const bool elsewhere = later && stream.tried.size() < kRoutersTriedMax;
  if (elsewhere && dispatch(request->first, request->second, prompt)) {
    metrics_.retried();
    return;
  }
  if (is_away && hold(stream, told, now)) return;
  fail(request, told, now);
}

bool GatewayCore::hold(Stream& stream, const ApiError& error, TimePoint now) {
  const auto served =
      served_at_.find(stream.generate.model + ":" + std::to_string(stream.generate.version));
  if (served == served_at_.end() || now - served->second >= options_.hold_timeout) return false;
  stream.loss = Loss{now, error, true};
  return true;
}

void GatewayCore::lose(Requests::iterator request, std::size_t prompt, const ApiError& error,
                       TimePoint now) {
  Stream& stream = request->second.streams[prompt];
  release(stream);
  if (!stream.loss || stream.loss->held) stream.loss = Loss{now, error};
  log_.debug("stream_lost",
             {{"request_id", request->second.call.request_id()}, {"error", error.message}});
  if (++stream.losses >= kRoutersTriedMax || stream.log.overflowed()) {
    fail(request, error, now);
    return;
  }
  dispatch(request->first, request->second, prompt);
}

bool GatewayCore::resume(Requests::iterator request, std::size_t prompt, TimePoint now) {
  Stream& stream = request->second.streams[prompt];
  const auto patience = stream.loss->held ? options_.hold_timeout : options_.resume_timeout;
  const bool is_late = now - stream.loss->since >= patience;
  stream.tried.clear();
  const bool may_go = !is_late || !stream.loss->held;  // routers that drain may refuse for long
  if (may_go && dispatch(request->first, request->second, prompt)) return true;
  // Nobody will ever serve again what it was begun with, once the last one has gone over.
  const bool replaced = routers_.usable(stream.generate.model) > 0 &&
                        serving_.is_gone(stream.generate.model, stream.generate.version);
  if (!replaced && !is_late) return true;
  fail(request, stream.loss->error, now);
  return false;
}

void GatewayCore::resume_waiting(TimePoint now) {
  std::size_t waiting = 0;
  for (auto request = requests_.begin(); request != requests_.end();) {
    const auto next = std::next(request);
    for (std::size_t prompt = 0; prompt < request->second.streams.size(); ++prompt) {
      const Stream& stream = request->second.streams[prompt];
      if (stream.id != 0 || stream.unfinished == 0) continue;
      if (!resume(request, prompt, now)) break;
      if (stream.id == 0) ++waiting;
    }
    request = next;
  }
  metrics_.streams_waiting(waiting);
}

// Those that no other router can take now stay: a drain has its time.
void GatewayCore::leave_draining() {
  for (auto& [id, open] : requests_) {
    for (std::size_t prompt = 0; prompt < open.streams.size(); ++prompt) {
      Stream& stream = open.streams[prompt];
      if (stream.id == 0 || !stream.accepted || !routers_.draining(stream.router)) continue;
      stream.tried = {stream.router};
      if (!choose(open, stream, {})) continue;
      cancel_at_router(stream);
      release(stream);
      dispatch(id, open, prompt);
      metrics_.moved();
    }
  }
}

}  // namespace conclave::gateway
