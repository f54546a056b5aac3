#include "api_front.hpp"

#include <algorithm>
#include <utility>

#include "client_headers.hpp"
#include "conclave/base/text.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/http/uri.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/limits.hpp"
#include "json_writer.hpp"
#include "key_book.hpp"

namespace conclave::gateway {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/";

Route route_of(std::string_view path) {
  for (const Route route :
       {Route::kChat, Route::kCompletions, Route::kModels, Route::kTokenize, Route::kDetokenize,
        Route::kHealth, Route::kReady, Route::kMetrics, Route::kVersion}) {
    if (path == to_string(route)) return route;
  }
  if (path.starts_with(kAdminPrefix)) return Route::kAdmin;
  return path.starts_with(kModelPrefix) ? Route::kModels : Route::kOther;
}

bool is_post(Route route) {
  return route == Route::kChat || route == Route::kCompletions || route == Route::kTokenize ||
         route == Route::kDetokenize;
}

void write_model(JsonWriter& json, const ServedModel& model) {
  json.begin_object().key("id").text(model.name).key("object").text("model");
  json.key("created").number(model.created).key("owned_by").text("conclave").end_object();
}

// What a client chose, if it may be sent around; else one of ours.
std::string request_id(const http::Request& request, const std::function<std::string()>& make) {
  const std::string_view given = request.header("X-Request-Id");
  return is_request_id(given) ? std::string(given) : make();
}

http::Response key_missing(std::string message) {
  http::Response response = error_response({401, std::move(message), {}, "missing_api_key", 0});
  response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

}  // namespace

base::Status ApiFront::ready() const {
  if (draining_) return base::fail(base::ErrorCode::kUnavailable, "draining");
  return parts_.status.ready();
}

std::string ApiFront::random_id() const { return hex_id(parts_.random(), parts_.random()); }

void ApiFront::handle(std::shared_ptr<http::Exchange> exchange) {
  const http::Request& request = exchange->request();
  ApiCall call(exchange, route_of(request.path),
               request_id(request, [this] { return random_id(); }), parts_.now(), parts_.metrics);
  dispatch(exchange, std::move(call));
}

void ApiFront::dispatch(const std::shared_ptr<http::Exchange>& exchange, ApiCall call) {
  const http::Request& request = exchange->request();
  const Route route = call.route();
  if (route == Route::kOther) {
    call.fail({404, "There is nothing at " + base::shown(request.path), {}, "unknown_path", 0});
    return;
  }
  if (route == Route::kAdmin) {
    administer(request, std::move(call));
    return;
  }
  const bool reads = request.method == "GET" || request.method == "HEAD";
  const bool fits = is_post(route) ? request.method == "POST" : reads;
  if (!fits) {
    const char* const allowed = is_post(route) ? "POST" : "GET, HEAD";
    http::Response response = error_response(
        {405, "This path takes " + std::string(allowed), {}, "method_not_allowed", 0});
    response.headers.push_back({"Allow", allowed});
    call.respond(std::move(response));
  } else if (is_post(route)) {
    post(exchange, std::move(call));
  } else {
    get(route, request, call);
  }
}

void ApiFront::get(Route route, const http::Request& request, ApiCall& call) const {
  std::string body;
  JsonWriter json(body);
  if (route == Route::kModels && request.path.starts_with(kModelPrefix)) {
    get_model(request.path, call);
    return;
  }
  if (route == Route::kReady) {
    get_ready(call);
    return;
  }
  if (route == Route::kMetrics) {
    call.respond({.body = parts_.expose_metrics(),
                  .content_type = std::string(telemetry::kExpositionContentType)});
    return;
  }
  json.begin_object();
  if (route == Route::kModels) {
    json.key("object").text("list").key("data").begin_array();
    for (const ServedModel& model : parts_.status.models()) write_model(json, model);
    json.end_array();
  } else if (route == Route::kVersion) {
    json.key("version").text(parts_.version);
  } else {
    json.key("status").text("ok");  // /health: it answers, so it lives
  }
  json.end_object();
  call.respond(std::move(body));
}

void ApiFront::get_model(std::string_view path, ApiCall& call) const {
  const auto name = http::percent_decode(path.substr(kModelPrefix.size()));
  const auto models = parts_.status.models();
  const auto model = std::ranges::find(models, name.value_or(""), &ServedModel::name);
  if (!name || model == models.end()) {
    call.fail(unknown_model(name ? *name : std::string(path.substr(kModelPrefix.size()))));
    return;
  }
  std::string body;
  JsonWriter json(body);
  write_model(json, *model);
  call.respond(std::move(body));
}

void ApiFront::get_ready(ApiCall& call) const {
  const base::Status status = ready();
  http::Response response{.status = status ? 200u : 503u};
  JsonWriter json(response.body);
  json.begin_object().key("ready").boolean(status.has_value());
  if (!status) json.key("reason").text(status.error().message);
  json.end_object();
  call.respond(std::move(response));
}

void ApiFront::post(const std::shared_ptr<http::Exchange>& exchange, ApiCall call) {
  const http::Request& request = exchange->request();
  if (!is_json_type(request.header("Content-Type"))) {
    call.fail({415, "The Content-Type must be application/json", {}, "unsupported_media_type", 0});
  } else if (draining_) {
    call.fail(unavailable("This gateway is draining", "draining"));
  } else if (parts_.admission.full()) {
    // Before the body is parsed: under load, refusing must be cheap.
    call.fail(too_many());
  } else if (call.route() == Route::kTokenize) {
    tokenize(request, std::move(call));
  } else if (call.route() == Route::kDetokenize) {
    detokenize(request, std::move(call));
  } else {
    generate(exchange, std::move(call));
  }
}

ApiError ApiFront::too_many() const {
  return overloaded("This gateway has " + std::to_string(parts_.admission.streams_max()) +
                    " prompts open, as many as it may: try again soon");
}

std::optional<Admission::Ticket> ApiFront::admit(ApiCall& call, std::size_t streams) {
  auto ticket = parts_.admission.enter(streams);
  if (ticket) return ticket;
  if (streams > parts_.admission.streams_max()) {
    call.fail(invalid_field("prompt",
                            "This gateway takes at most " +
                                std::to_string(parts_.admission.streams_max()) + " prompts at once",
                            "invalid_value"));
  } else {
    call.fail(too_many());
  }
  return std::nullopt;
}

std::optional<wire::Sha256> ApiFront::shown_key(const http::Request& request) {
  const std::string_view token = bearer_token(request.header("Authorization"));
  return token.empty() ? std::nullopt : std::optional(secret_sum(token));
}

void ApiFront::generate(const std::shared_ptr<http::Exchange>& exchange, ApiCall call) {
  const http::Request& http = exchange->request();
  const std::optional<wire::Sha256> key = shown_key(http);
  if (!key && parts_.require_key) {
    call.respond(key_missing("This server takes an API key: Authorization: Bearer KEY"));
    return;
  }
  const bool chat = call.route() == Route::kChat;
  auto request =
      chat ? parse_chat(http.body, parts_.random) : parse_completion(http.body, parts_.random);
  if (!request) {
    call.fail(request.error());
    return;
  }
  if (const std::string_view session = http.header("X-Session-Id"); !session.empty()) {
    request->session = session;
  }
  auto ticket = admit(call, request->prompts.size());
  if (!ticket) return;
  const RequestId id{next_request_.fetch_add(1, std::memory_order_relaxed)};
  parts_.backend.submit(
      {.id = id,
       .call = std::move(call),
       .request = std::move(*request),
       .trace = parse_traceparent(http.header("traceparent")).value_or(wire::TraceContext{}),
       .answer_id = (chat ? "chatcmpl-" : "cmpl-") + random_id(),
       .key = key,
       .ticket = std::move(*ticket),
       .grant = std::nullopt});
  // After submit(): a client that has gone already is heard of after its request.
  exchange->on_close([this, id] { parts_.backend.client_gone(id); });
}

void ApiFront::tokenize(const http::Request& request, ApiCall call) {
  auto body = parse_tokenize(request.body);
  if (!body) {
    call.fail(body.error());
    return;
  }
  if (auto ticket = admit(call, 1)) {
    parts_.backend.tokenize({std::move(call), std::move(*body), std::move(*ticket)});
  }
}

// What it is about is its owner's to say; here is said only what cannot be passed on.
void ApiFront::administer(const http::Request& request, ApiCall call) {
  const std::string_view token = bearer_token(request.header("Authorization"));
  if (token.empty()) {
    call.respond(key_missing("Administration takes an API key: Authorization: Bearer KEY"));
    return;
  }
  if (!is_json_type(request.header("Content-Type")) && !request.body.empty()) {
    call.fail({415, "The Content-Type must be application/json", {}, "unsupported_media_type", 0});
    return;
  }
  if (request.body.size() > wire::kAdminBodyBytesMax) {
    call.fail(
        {413,
         "Administration takes at most " + std::to_string(wire::kAdminBodyBytesMax) + " bytes",
         {},
         "request_too_large",
         0});
    return;
  }
  if (request.path.size() + request.query.size() > wire::kAdminTargetBytesMax) {
    call.fail({414, "The path and its query are too long", {}, "uri_too_long", 0});
    return;
  }
  const std::string_view if_match = request.header("If-Match");
  if (if_match.size() > wire::kNameBytesMax || !base::utf8::valid(if_match) ||
      !base::utf8::valid(request.path) || !base::utf8::valid(request.query) ||
      request.method.size() > wire::kNameBytesMax) {
    call.fail(invalid_field({}, "The request line or If-Match is no text, or too long"));
    return;
  }
  AdminCall admin{std::move(call), {}, secret_sum(token)};
  admin.request.method = request.method;
  admin.request.path = request.path;
  admin.request.query = request.query;
  admin.request.body = request.body;
  admin.request.if_match = if_match;
  admin.request.request_id = admin.call.request_id();
  parts_.backend.administer(std::move(admin));
}

void ApiFront::detokenize(const http::Request& request, ApiCall call) {
  auto parsed = parse_detokenize(request.body);
  if (!parsed) {
    call.fail(parsed.error());
    return;
  }
  if (auto ticket = admit(call, 1)) {
    parts_.backend.detokenize({std::move(call), std::move(*parsed), std::move(*ticket)});
  }
}

}  // namespace conclave::gateway
