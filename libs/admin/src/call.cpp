#include "conclave/admin/call.hpp"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <charconv>

#include "conclave/base/text.hpp"
#include "conclave/http/uri.hpp"

namespace conclave::admin {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

// Deep enough for what people write, far from what a stack holds.
constexpr std::size_t kDepthMax = 32;

template <class Number>
std::optional<Number> whole(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return number;
}

}  // namespace

Result<std::uint32_t> Call::number(const std::string& name) const {
  if (const auto number = whole<std::uint32_t>(text(name))) return *number;
  return fail(ErrorCode::kNotFound, "there is no " + name + " " + base::shown(text(name)));
}

std::string Call::argument(std::string_view name) const {
  return http::query_value(request_.query, name).value_or("");
}

Result<std::uint64_t> Call::argument(std::string_view name, std::uint64_t otherwise,
                                     std::uint64_t least, std::uint64_t most) const {
  const auto text = http::query_value(request_.query, name);
  if (!text) return otherwise;
  const auto number = whole<std::uint64_t>(*text);
  if (number && *number >= least && *number <= most) return *number;
  return fail(ErrorCode::kInvalidArgument, std::string(name) + ": " + base::shown(*text) +
                                               " is no whole number from " + std::to_string(least) +
                                               " to " + std::to_string(most));
}

Result<std::uint32_t> Call::limit() const {
  CONCLAVE_TRY(const std::uint64_t limit, argument("limit", 100, 1, kPageMax));
  return static_cast<std::uint32_t>(limit);
}

Result<bool> Call::dry_run() const {
  const std::string text = argument("dry_run");
  if (text.empty() || text == "false") return false;
  if (text == "true") return true;
  return fail(ErrorCode::kInvalidArgument,
              "dry_run: " + base::shown(text) + " is not true or false");
}

Result<std::optional<std::uint64_t>> Call::if_match() const {
  const std::string_view text = request_.if_match;
  if (text.empty() || text == "*") return std::optional<std::uint64_t>();
  if (text.size() > 2 && text.front() == '"' && text.back() == '"') {
    if (const auto revision = whole<std::uint64_t>(text.substr(1, text.size() - 2))) {
      return std::optional(*revision);
    }
  }
  return fail(ErrorCode::kInvalidArgument,
              "If-Match: " + base::shown(text) + " is no ETag of ours");
}

Result<json::object> Call::any_body() const {
  if (request_.body.empty()) return json::object();
  json::error_code error;
  json::parse_options options;
  options.max_depth = kDepthMax;
  const json::value value = json::parse(request_.body, error, {}, options);
  if (error) return fail(ErrorCode::kInvalidArgument, "the body is no JSON: " + error.message());
  if (!value.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "the body must be a JSON object");
  }
  return value.get_object();
}

Result<json::object> Call::body(std::initializer_list<std::string_view> members) const {
  CONCLAVE_TRY(json::object body, any_body());
  for (const auto& member : body) {
    if (std::ranges::find(members, std::string_view(member.key())) == members.end()) {
      return fail(ErrorCode::kInvalidArgument,
                  base::printable(member.key()) + std::string(kNoSuchMember));
    }
  }
  return body;
}

Result<std::optional<std::string>> text_member(const json::object& body, std::string_view name) {
  const json::value* value = body.if_contains(name);
  if (value == nullptr || value->is_null()) return std::optional<std::string>();
  if (const json::string* text = value->if_string()) return std::optional<std::string>(*text);
  return fail(ErrorCode::kInvalidArgument, std::string(name) + " must be text");
}

Result<std::optional<std::uint64_t>> number_member(const json::object& body, std::string_view name,
                                                   std::uint64_t most) {
  const json::value* value = body.if_contains(name);
  if (value == nullptr || value->is_null()) return std::optional<std::uint64_t>();
  json::error_code error;
  const auto number = value->to_number<std::uint64_t>(error);
  if (!error && !value->is_double() && number <= most) return std::optional(number);
  return fail(ErrorCode::kInvalidArgument,
              std::string(name) + " must be a whole number from 0 to " + std::to_string(most));
}

Result<std::optional<bool>> bool_member(const json::object& body, std::string_view name) {
  const json::value* value = body.if_contains(name);
  if (value == nullptr || value->is_null()) return std::optional<bool>();
  if (const bool* flag = value->if_bool()) return std::optional(*flag);
  return fail(ErrorCode::kInvalidArgument, std::string(name) + " must be true or false");
}

Result<std::string> required(Result<std::optional<std::string>> member, std::string_view name) {
  CONCLAVE_TRY(std::optional<std::string> text, std::move(member));
  if (text && !text->empty()) return *std::move(text);
  return fail(ErrorCode::kInvalidArgument, std::string(name) + " is missing");
}

}  // namespace conclave::admin
