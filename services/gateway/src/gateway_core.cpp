#include "gateway_core.hpp"

#include <algorithm>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::gateway {

using base::ErrorCode;
using wire::FinishReason;

namespace {

// The first event that says that there will be no answer, or the end.
std::vector<wire::TokenEvent>::iterator find_failure(std::vector<wire::TokenEvent>& events) {
  return std::find_if(events.begin(), events.end(), [](const wire::TokenEvent& event) {
    return event.finish == FinishReason::kError || event.finish == FinishReason::kCancelled;
  });
}

base::Error failure_of(const wire::TokenEvent& event) {
  if (event.finish == FinishReason::kError) return event.error;
  return {ErrorCode::kCancelled, "the router ended it"};
}

// Another router may go on where this one cannot.
bool may_go_on(ErrorCode code) {
  return code == ErrorCode::kUnavailable || code == ErrorCode::kOverloaded ||
         code == ErrorCode::kCancelled;
}

ApiError router_lost() {
  return {502, "The router that computed this answer was lost", {}, "upstream_lost", 0};
}

}  // namespace

GatewayCore::GatewayCore(CoreOptions options, RouterPort& port, GatewayMetrics& metrics,
                         GatewayStatus& status, telemetry::Logger log)
    : options_(std::move(options)),
      port_(port),
      metrics_(metrics),
      status_(status),
      log_(std::move(log)),
      prefixes_(options_.prefix_blocks_max) {}

GatewayCore::~GatewayCore() = default;

Parsed<ServingBook::Choice> GatewayCore::served(std::string_view model, const Requester& who) {
  if (serving_.is_empty()) {
    return tl::unexpected(unavailable("No model is served yet" +
                                      (fleet_reason_.empty() ? "" : ": " + fleet_reason_)));
  }
  auto choice = serving_.choose(model, who, [this](const wire::ModelVersion& version) {
    return routers_.usable(version.name, version.version) > 0;
  });
  if (!choice) return tl::unexpected(unknown_model(model));
  return *std::move(choice);
}

Parsed<RouterId> GatewayCore::route(std::string& model) {
  auto choice = served(model, {.random = random()});
  if (!choice) return tl::unexpected(std::move(choice.error()));
  const wire::ModelVersion& version = choice->version;
  const bool is_bare = model.empty() || model == version.name;
  model = is_bare ? version.name : version.name + ":" + std::to_string(version.version);
  if (const auto router =
          routers_.choose({.model = version.name, .version = is_bare ? 0 : version.version})) {
    return *router;
  }
  return tl::unexpected(no_router(version.name));
}

ApiError GatewayCore::no_router(const std::string& model) const {
  return unavailable("No router is ready: " + routers_.why_not_usable(model));
}

bool GatewayCore::submit(Submission submission, TimePoint now) {
  const GenerationRequest& asked = submission.request;
  const auto choice =
      served(asked.model, {.user = asked.user, .session = asked.session, .random = random()});
  if (!choice) {
    submission.call.fail(choice.error());
    return false;
  }
  const auto request = open(std::move(submission), *choice);
  for (std::size_t prompt = 0; prompt < request->second.streams.size(); ++prompt) {
    if (dispatch(request->first, request->second, prompt)) continue;
    const ApiError error = no_router(choice->version.name);
    if (hold(request->second.streams[prompt], error, now)) continue;
    fail(request, error, now);
    return false;
  }
  if (choice->shadow.version != 0) shadow(request->second, choice->shadow, now);
  return true;
}

GatewayCore::Requests::iterator GatewayCore::open(Submission submission,
                                                  const ServingBook::Choice& choice) {
  const ServedModel& model = choice.shown;
  const AnswerFormat& format = submission.request.format;
  std::vector<wire::Generate>& prompts = submission.request.prompts;
  submission.call.set_version(choice.version.name + ":" + std::to_string(choice.version.version));
  Answer answer(format, {submission.answer_id, options_.unix_time(), model.name, model.fingerprint},
                prompts);
  const telemetry::SpanContext span =
      options_.tracer.enter(telemetry::span_context(submission.trace));
  std::vector<Stream> streams;
  for (wire::Generate& generate : prompts) {
    generate.gateway = options_.gateway;
    generate.request_id = submission.call.request_id();
    generate.trace =
        span.empty() ? submission.trace : telemetry::trace_context<wire::TraceContext>(span);
    generate.started_unix_s = options_.unix_time();
    generate.model = choice.version.name;
    generate.version = choice.version.version;
    TokenLog log(format.choices, generate.echo);
    streams.push_back({.unfinished = format.choices,
                       .generate = std::move(generate),
                       .log = std::move(log),
                       .loss = {}});
  }
  const std::uint64_t session =
      submission.request.session.empty() ? 0 : std::hash<std::string>{}(submission.request.session);
  const TimePoint deadline = submission.call.arrived() + options_.request_timeout;
  const std::size_t choices = streams.size() * format.choices;
  const auto [request, is_new] =
      requests_.try_emplace(submission.id, Open{.call = std::move(submission.call),
                                                .ticket = std::move(submission.ticket),
                                                .grant = std::move(submission.grant),
                                                .format = format,
                                                .answer = std::move(answer),
                                                .metrics = metrics_.model(choice.version.name),
                                                .streams = std::move(streams),
                                                .last_tokens = std::vector<TimePoint>(choices),
                                                .model = model.name,
                                                .key = submission.key,
                                                .deadline = deadline,
                                                .session = session,
                                                .span = span,
                                                .parent_span = submission.trace.span_id});
  CONCLAVE_CHECK(is_new);
  request->second.metrics.request_waits();
  return request;
}

void GatewayCore::accepted(std::uint64_t stream, const wire::Accepted& accepted) {
  const auto place = places_.find(stream);
  if (place == places_.end()) return;  // closed, or a shadow's
  Open& open = requests_.at(place->second.request);
  Stream& begun = open.streams[place->second.prompt];
  if (!std::exchange(begun.accepted, true)) {
    // Whoever goes on with it shall come to the same end.
    if (accepted.version != 0) begun.generate.version = accepted.version;
    if (accepted.max_tokens > 0) begun.generate.max_tokens = accepted.max_tokens;
    begun.log.accepted(accepted.prompt_tokens);
  }
  open.answer.accept(place->second.prompt, accepted.prompt_tokens);
}

void GatewayCore::events(wire::TokenEvents& events, TimePoint now) {
  std::vector<RequestId> changed;
  for (wire::StreamEvents& stream : events.streams) {
    const auto place = places_.find(stream.stream);
    if (place == places_.end()) {
      if (const auto ended = shadows_.hear(stream)) {
        routers_.sequences_closed(ended->router, ended->sequences);
      } else if (!shadows_.knows(stream.stream)) {
        metrics_.stale_events();
      }
      continue;
    }
    const auto [id, prompt] = place->second;
    const auto request = requests_.find(id);
    const auto failure = find_failure(stream.tokens);
    if (failure == stream.tokens.end()) {
      take(request->second, prompt, stream, now);
      // The streams of one request mostly follow each other: one write for them all.
      if (changed.empty() || changed.back() != id) changed.push_back(id);
      continue;
    }
    const base::Error error = failure_of(*failure);
    const ApiError told = from_router(error, prompt_field(request->second));
    stream.tokens.erase(failure, stream.tokens.end());
    take(request->second, prompt, stream, now);
    // A deployment whose policy is to fail has said so.
    if (!may_go_on(error.code) || is_experts_missing(told)) {
      fail(request, told, now);
      continue;
    }
    if (changed.empty() || changed.back() != id) changed.push_back(id);
    cancel_at_router(request->second.streams[prompt]);  // choices that did not fail
    request->second.streams[prompt].tried = {request->second.streams[prompt].router};
    lose(request, prompt, told, now);
  }
  for (const RequestId id : changed) {
    const auto request = requests_.find(id);
    if (request != requests_.end()) deliver(request, now);
  }
}

void GatewayCore::take(Open& open, std::size_t prompt, wire::StreamEvents& events, TimePoint now) {
  Stream& stream = open.streams[prompt];
  stream.log.add(events);
  if (stream.loss && !events.tokens.empty()) {
    if (!stream.loss->held) metrics_.resumed(now - stream.loss->since);
    stream.loss.reset();
    stream.tried.clear();
  }
  if (!events.tokens.empty()) stream.losses = 0;
  measure(open, prompt, events, now);
  open.answer.add(prompt, events, open.out);
  for (const wire::TokenEvent& event : events.tokens) {
    if (event.finish == FinishReason::kNone) continue;
    if (stream.unfinished > 0) --stream.unfinished;
  }
  if (stream.unfinished == 0) release(stream);
}

void GatewayCore::measure(Open& open, std::size_t prompt, const wire::StreamEvents& events,
                          TimePoint now) {
  const std::size_t first = prompt * open.format.choices;
  for (const wire::TokenEvent& event : events.tokens) {
    if (event.choice >= open.format.choices) continue;
    if (event.finish != FinishReason::kNone) open.metrics.choice_finished(event.finish);
    if (event.token < 0) continue;
    if (!std::exchange(open.running, true)) open.metrics.first_token(now - open.call.arrived());
    TimePoint& last = open.last_tokens[first + event.choice];
    if (last != TimePoint()) open.metrics.token_after(now - last);
    last = now;
  }
}

void GatewayCore::deliver(Requests::iterator request, TimePoint now) {
  Open& open = request->second;
  const bool complete = open.answer.complete();
  if (open.answer.usage().degraded_pairs > 0) open.call.mark_degraded(ApiCall::kNextBest);
  if (!open.format.stream) {
    if (!complete) return;
    open.answer.finish(open.out);
    open.call.respond(std::move(open.out));
    close(request, true, now);
    return;
  }
  if (complete) open.answer.finish(open.out);
  if (open.out.empty()) return;
  if (!std::exchange(open.streaming, true)) open.call.begin_stream();
  if (!open.call.write(std::exchange(open.out, {}))) {
    metrics_.client_lost();
    close(request, false, now);
    return;
  }
  if (!complete) return;
  open.call.end();
  close(request, true, now);
}

void GatewayCore::fail(Requests::iterator request, const ApiError& error, TimePoint now) {
  Open& open = request->second;
  log_.debug(
      "request_failed",
      {{"request_id", open.call.request_id()}, {"status", error.status}, {"error", error.message}});
  if (is_experts_missing(error)) {
    open.call.mark_degraded(ApiCall::kFail);
    metrics_.experts_missing();
  }
  if (open.streaming) {
    // Nobody is there to hear it if this fails.
    (void)open.call.write(std::exchange(open.out, {}) + stream_error(error));
    open.call.end();
  } else {
    open.call.fail(error);
  }
  close(request, false, now);
}

void GatewayCore::close(Requests::iterator request, bool answered, TimePoint now) {
  Open& open = request->second;
  for (Stream& stream : open.streams) {
    if (stream.loss && !stream.loss->held && stream.unfinished > 0) metrics_.given_up();
    // What no router took was refused, not aborted.
    for (std::size_t i = 0; stream.accepted && i < stream.unfinished; ++i) {
      open.metrics.choice_finished(FinishReason::kCancelled);
    }
    if (stream.id == 0) continue;
    cancel_at_router(stream);
    release(stream);
  }
  const Usage usage = open.answer.usage();
  if (usage.degraded_pairs > 0) metrics_.degraded();
  if (open.grant) open.grant->used(usage.prompt_tokens + usage.completion_tokens);
  open.metrics.request_ends(answered, open.running, usage.prompt_tokens, usage.completion_tokens,
                            now - open.call.arrived());
  if (options_.used && (answered || usage.prompt_tokens != 0)) {
    options_.used(open.key, open.model, usage);
  }
  record(open, answered, usage, now);
  log_.debug("request_closed", {{"request_id", open.call.request_id()},
                                {"answered", answered},
                                {"prompt_tokens", usage.prompt_tokens},
                                {"completion_tokens", usage.completion_tokens}});
  requests_.erase(request);
}

void GatewayCore::record(const Open& open, bool answered, const Usage& usage, TimePoint now) const {
  if (open.span.empty()) return;
  options_.tracer.record(
      {.context = open.span,
       .parent_id = open.parent_span,
       .name = std::string("POST ") + to_string(open.call.route()),
       .kind = telemetry::SpanKind::kServer,
       .begin = open.call.arrived(),
       .end = now,
       .attributes = {{"conclave.request_id", open.call.request_id()},
                      {"conclave.model", open.model},
                      {"conclave.stream", open.streaming},
                      {"conclave.prompt_tokens", static_cast<std::int64_t>(usage.prompt_tokens)},
                      {"conclave.generated_tokens",
                       static_cast<std::int64_t>(usage.completion_tokens)}},
       .error = answered ? "" : "not answered to its end"});
}

void GatewayCore::client_gone(RequestId id, TimePoint now) {
  const auto request = requests_.find(id);
  if (request == requests_.end()) return;
  metrics_.client_lost();
  request->second.call.abandon();
  close(request, false, now);
}

void GatewayCore::tick(TimePoint now) {
  for (auto request = requests_.begin(); request != requests_.end();) {
    const auto next = std::next(request);
    if (request->second.deadline <= now) {
      fail(request,
           {504, "The request took longer than this server allows", {}, "deadline_exceeded", 0},
           now);
    }
    request = next;
  }
  for (const ShadowBook::Shadow& late : shadows_.expire(now)) {
    port_.cancel(late.router, {options_.gateway, late.stream});
    routers_.sequences_closed(late.router, late.sequences);
  }
  note_served(now);
  leave_draining();
  resume_waiting(now);
}

void GatewayCore::note_served(TimePoint now) {
  std::map<std::string, TimePoint> served_at;
  for (const wire::ModelVersion& version : serving_.versions()) {
    const std::string name = version.name + ":" + std::to_string(version.version);
    const auto before = served_at_.find(name);
    if (routers_.usable(version.name, version.version) > 0) {
      served_at[name] = now;
    } else if (before != served_at_.end()) {
      served_at.insert(*before);
    }
  }
  served_at_ = std::move(served_at);
}

void GatewayCore::deployments(wire::DeploymentList list) {
  serving_.learn(std::move(list), options_.unix_time());
  publish_status();
}

void GatewayCore::fleet(const wire::Fleet& fleet) {
  const RouterDirectory::Changes changes = routers_.update(fleet);
  for (const std::string& address : changes.connect) {
    if (const auto link = port_.connect(address)) {
      routers_.connected(address, *link);
    } else {
      log_.warn("router_address_refused", {{"address", address}});
    }
  }
  for (const RouterId router : changes.disconnect) port_.disconnect(router);
  fleet_reason_ = fleet.reason;
  serving_.learn(fleet, options_.unix_time());
  publish_status();
  leave_draining();
}

void GatewayCore::link_changed(RouterId router, bool up, TimePoint now) {
  if (up) {
    routers_.link_up(router);
    publish_status();
    resume_waiting(now);
    return;
  }
  prefixes_.forget(router);
  for (const ShadowBook::Shadow& lost : shadows_.lose(router)) {
    routers_.sequences_closed(lost.router, lost.sequences);
  }
  if (const auto forgotten = routers_.link_down(router)) port_.disconnect(*forgotten);
  publish_status();
  // Failing one request may not touch another's stream, but it ends all streams of its own.
  std::vector<std::uint64_t> lost;
  for (const auto& [stream, place] : places_) {
    if (requests_.at(place.request).streams[place.prompt].router == router) lost.push_back(stream);
  }
  std::sort(lost.begin(), lost.end());
  for (const std::uint64_t stream : lost) {
    const auto place = places_.find(stream);
    if (place == places_.end()) continue;
    const auto [id, prompt] = place->second;
    lose(requests_.find(id), prompt, router_lost(), now);
  }
}

// Ready, if a request for any of the versions would be taken.
void GatewayCore::publish_status() {
  std::size_t usable = 0;
  const std::vector<wire::ModelVersion> versions = serving_.versions();
  for (const wire::ModelVersion& version : versions) {
    usable = std::max(usable, routers_.usable(version.name, version.version));
  }
  metrics_.routers_up(usable);
  base::Status ready;
  if (versions.empty()) {
    ready = base::fail(ErrorCode::kUnavailable,
                       fleet_reason_.empty() ? "no model is served yet" : fleet_reason_);
  } else if (usable == 0) {
    ready = base::fail(ErrorCode::kUnavailable, routers_.why_not_usable(versions.front().name));
  }
  status_.set(serving_.shown(), std::move(ready));
}

}  // namespace conclave::gateway
