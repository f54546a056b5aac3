#include "conclave/admin/routes.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <cctype>
#include <optional>
#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/base/text.hpp"
#include "conclave/http/uri.hpp"

namespace conclave::admin {

namespace json = boost::json;

namespace {

struct Segments {
  std::string_view text;

  // The next one, without its slash; nothing at the end.
  std::optional<std::string_view> next() {
    if (!text.starts_with('/')) return std::nullopt;
    text.remove_prefix(1);
    const std::size_t end = std::min(text.find('/'), text.size());
    const std::string_view segment = text.substr(0, end);
    text.remove_prefix(end);
    return segment;
  }
};

// A pattern's segment: "models", "{name}" or "{version}:publish".
struct Piece {
  std::string_view parameter;  // empty: the segment is `literal`
  std::string_view literal;    // or the ":verb" after a parameter
};

Piece piece_of(std::string_view segment) {
  if (!segment.starts_with('{')) return {{}, segment};
  const std::size_t end = segment.find('}');
  return {segment.substr(1, end - 1), segment.substr(end + 1)};
}

// Names and numbers have no colon, so what follows one is a verb.
std::optional<std::map<std::string, std::string>> match(std::string_view pattern,
                                                        std::string_view path) {
  std::map<std::string, std::string> parameters;
  Segments wanted{pattern};
  Segments given{path};
  for (;;) {
    const auto want = wanted.next();
    const auto have = given.next();
    if (!want && !have) {
      if (!given.text.empty()) return std::nullopt;
      return parameters;
    }
    if (!want || !have) return std::nullopt;
    const Piece piece = piece_of(*want);
    if (piece.parameter.empty()) {
      if (*have != piece.literal) return std::nullopt;
      continue;
    }
    const std::size_t colon = std::min(have->find(':'), have->size());
    if (have->substr(colon) != piece.literal) return std::nullopt;
    auto value = http::percent_decode(have->substr(0, colon));
    if (!value || value->empty()) return std::nullopt;
    parameters[std::string(piece.parameter)] = *std::move(value);
  }
}

json::array parameters_of(const Route& route) {
  json::array parameters;
  Segments segments{route.pattern};
  while (const auto segment = segments.next()) {
    const Piece piece = piece_of(*segment);
    if (piece.parameter.empty()) continue;
    parameters.push_back({{"name", piece.parameter},
                          {"in", "path"},
                          {"required", true},
                          {"schema", {{"type", "string"}}}});
  }
  for (const Argument& argument : route.arguments) {
    parameters.push_back({{"name", argument.name},
                          {"in", "query"},
                          {"description", argument.meaning},
                          {"schema", {{"type", "string"}}}});
  }
  return parameters;
}

json::object operation_of(const Route& route) {
  json::object operation{{"summary", route.summary},
                         {"parameters", parameters_of(route)},
                         {"security", json::array{{{"key", json::array()}}}},
                         {"responses",
                          {{"2XX", {{"description", "Done"}}},
                           {"default", {{"$ref", "#/components/responses/error"}}}}}};
  if (route.body.empty()) return operation;
  json::object members;
  for (const Argument& member : route.body) {
    members[member.name] = json::object{{"description", member.meaning}};
  }
  operation["requestBody"] = json::object{
      {"content",
       {{"application/json", {{"schema", {{"type", "object"}, {"properties", members}}}}}}}};
  return operation;
}

// Of "pins[0].worker_group is ..", all of the first word; of "limit: ..", what is before the colon.
std::string_view first_word(std::string_view text) {
  return text.substr(0, std::min(text.find_first_of(" :"), text.size()));
}

void drop(std::string_view& text, std::string_view start) {
  if (text.starts_with(start)) text.remove_prefix(start.size());
}

bool has_field(const Route& route, std::string_view name) {
  const auto is_it = [name](const Argument& argument) { return argument.name == name; };
  return std::ranges::any_of(route.arguments, is_it) || std::ranges::any_of(route.body, is_it) ||
         route.pattern.find("{" + std::string(name) + "}") != std::string::npos;
}

// The field that an error names, as routes.hpp says; empty: none.
std::string_view param_of(const Route& route, const base::Error& error) {
  if (error.code != base::ErrorCode::kInvalidArgument) return {};
  std::string_view text = error.message;
  if (text.ends_with(kNoSuchMember)) return text.substr(0, text.size() - kNoSuchMember.size());
  drop(text, "the ");
  for (const std::string_view kind : {"model ", "deployment "}) {
    if (text.starts_with(std::string(kind) + "name")) drop(text, kind);
  }
  const std::string_view word = first_word(text);
  const std::string_view field = word.substr(0, std::min(word.find_first_of(".["), word.size()));
  return field == "If-Match" || has_field(route, field) ? word : std::string_view();
}

wire::AccessRole least_of(const Route& route) {
  if (route.least != wire::AccessRole::kNone) return route.least;
  return route.method == "GET" ? wire::AccessRole::kRead : wire::AccessRole::kAdmin;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

void Routes::add(Route route) {
  const bool is_twice = std::ranges::any_of(routes_, [&](const Route& other) {
    return other.method == route.method && other.pattern == route.pattern;
  });
  CONCLAVE_CHECK(!is_twice);
  routes_.push_back(std::move(route));
}

wire::AdminReply Routes::serve(const wire::AdminRequest& request) const {
  std::string allowed;
  for (const Route& route : routes_) {
    auto parameters = match(route.pattern, request.path);
    if (!parameters) continue;
    if (route.method != request.method) {
      allowed += (allowed.empty() ? "" : ", ") + route.method;
      continue;
    }
    const wire::AccessRole least = least_of(route);
    if (request.subject.role < least) {
      return error_reply(403, "forbidden",
                         least == wire::AccessRole::kRead
                             ? "this key may ask models only"
                             : "this key may look, and change nothing: it takes the role admin");
    }
    auto reply = route.handler(Call(request, *std::move(parameters)));
    return reply ? *std::move(reply) : refusal_(reply.error(), param_of(route, reply.error()));
  }
  if (!allowed.empty()) {
    return error_reply(405, "method_not_allowed", "this path takes " + allowed);
  }
  return error_reply(404, "unknown_path", "there is nothing at " + base::shown(request.path));
}

json::object openapi(std::span<const Route> routes, std::string_view version) {
  json::object paths;
  for (const Route& route : routes) {
    json::value& path = paths[route.pattern];
    if (!path.is_object()) path.emplace_object();
    path.get_object()[lower(route.method)] = operation_of(route);
  }
  return {{"openapi", "3.0.3"},
          {"info", {{"title", "Conclave administration"}, {"version", version}}},
          {"paths", std::move(paths)},
          {"components",
           {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}},
            {"responses",
             {{"error",
               {{"description", "What is wrong, as {\"error\":{message,type,param,code}}"}}}}}}}};
}

}  // namespace conclave::admin
