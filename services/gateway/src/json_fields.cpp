#include "json_fields.hpp"

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/parser.hpp>
#include <cmath>
#include <limits>

namespace conclave::gateway {

namespace json = boost::json;

namespace {

// The shortest form, without an exponent for what people write.
std::string shown_number(double number) {
  if (number == std::floor(number) && std::fabs(number) < 1e15) {
    return std::to_string(static_cast<std::int64_t>(number));
  }
  std::string text = std::to_string(number);
  text.erase(text.find_last_not_of('0') + 1);
  return text;
}

// What a client sees of a bad body: where, and why.
ApiError not_json(std::size_t at, const std::string& why) {
  return invalid_field({}, "The body is not valid JSON: " + why + " at byte " + std::to_string(at),
                       "invalid_json");
}

}  // namespace

Parsed<json::object> parse_body(std::string_view body) {
  json::parse_options options;
  options.max_depth = kJsonDepthMax;
  json::parser parser({}, options);
  // One block after the other, freed as a whole: a body has many small values.
  parser.reset(json::make_shared_resource<json::monotonic_resource>());
  boost::system::error_code error;
  const std::size_t read = parser.write_some(body.data(), body.size(), error);
  if (error) return tl::unexpected(not_json(read, error.message()));
  if (body.find_first_not_of(" \t\r\n", read) != std::string_view::npos) {
    return tl::unexpected(not_json(read, "more follows its end"));
  }
  json::value value = parser.release();
  if (!value.is_object()) {
    return tl::unexpected(invalid_field({}, "The body must be a JSON object", "invalid_type"));
  }
  return std::move(value.get_object());
}

const json::value* JsonFields::find(std::string_view name) const {
  const json::value* value = object_.if_contains({name.data(), name.size()});
  return value == nullptr || value->is_null() ? nullptr : value;
}

void JsonFields::wrong_type(std::string_view name, std::string_view wanted) {
  std::string message(name);
  message.append(" must be ").append(wanted);
  fail(std::string(name), std::move(message), "invalid_type");
}

bool JsonFields::boolean(std::string_view name, bool fallback) {
  const json::value* value = find(name);
  if (value == nullptr) return fallback;
  if (value->is_bool()) return value->get_bool();
  wrong_type(name, "a boolean");
  return fallback;
}

std::optional<std::int64_t> JsonFields::integer(std::string_view name, std::int64_t least,
                                                std::int64_t most) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    wrong_type(name, "an integer");
    return std::nullopt;
  }
  const auto number = whole_number(*value);
  if (!number && value->is_double()) {
    wrong_type(name, "an integer");
    return std::nullopt;
  }
  if (number && *number >= least && *number <= most) return number;
  fail(std::string(name),
       std::string(name) + " must be " + std::to_string(least) + " to " + std::to_string(most));
  return std::nullopt;
}

float JsonFields::number(std::string_view name, float fallback, float least, float most) {
  const json::value* value = find(name);
  if (value == nullptr) return fallback;
  if (!value->is_number()) {
    wrong_type(name, "a number");
    return fallback;
  }
  const auto number = value->to_number<double>();
  // After rounding: 1e-50 is 0 as a float.
  const auto rounded = static_cast<float>(number);
  if (rounded >= least && rounded <= most) return rounded;
  fail(std::string(name),
       std::string(name) + " must be " + shown_number(least) + " to " + shown_number(most));
  return fallback;
}

std::optional<std::string> JsonFields::text(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::string(value->get_string());
  wrong_type(name, "a string");
  return std::nullopt;
}

const json::array* JsonFields::array(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) wrong_type(name, "a list");
  return value->if_array();
}

const json::object* JsonFields::object(std::string_view name) {
  const json::value* value = find(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) wrong_type(name, "an object");
  return value->if_object();
}

std::optional<std::int64_t> whole_number(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (!value.is_double()) return std::nullopt;  // a uint64 here is above all int64
  const double number = value.get_double();
  constexpr double kExactMax = 9007199254740992.0;  // 2^53
  if (std::fabs(number) > kExactMax || number != std::floor(number)) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

std::optional<std::vector<std::int32_t>> token_ids(const json::array& array) {
  std::vector<std::int32_t> ids;
  ids.reserve(array.size());
  for (const json::value& value : array) {
    const auto id = whole_number(value);
    if (!id || *id < 0 || *id > std::numeric_limits<std::int32_t>::max()) return std::nullopt;
    ids.push_back(static_cast<std::int32_t>(*id));
  }
  return ids;
}

}  // namespace conclave::gateway
