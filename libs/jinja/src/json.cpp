#include "conclave/jinja/json.hpp"

#include <boost/json/parse.hpp>
#include <cmath>

#include "conclave/jinja/template.hpp"

namespace conclave::jinja {
namespace {

// 2^63: the first double that no longer fits a signed 64-bit integer.
constexpr double kInt64End = 9223372036854775808.0;

Value number(double value) {
  if (std::trunc(value) == value && value >= -kInt64End && value < kInt64End) {
    return static_cast<std::int64_t>(value);
  }
  return value;
}

base::Result<Value> convert(const boost::json::value& json, std::size_t depth) {
  if (depth > kValueDepthMax) {
    return base::fail(base::ErrorCode::kInvalidArgument, "JSON nests too deeply");
  }
  switch (json.kind()) {
    case boost::json::kind::null:
      return Value(nullptr);
    case boost::json::kind::bool_:
      return Value(json.get_bool());
    case boost::json::kind::int64:
      return Value(json.get_int64());
    case boost::json::kind::uint64:
      return Value(static_cast<double>(json.get_uint64()));
    case boost::json::kind::double_:
      return number(json.get_double());
    case boost::json::kind::string: {
      const boost::json::string& text = json.get_string();
      return Value(std::string(text.data(), text.size()));
    }
    case boost::json::kind::array: {
      Array items;
      items.reserve(json.get_array().size());
      for (const boost::json::value& item : json.get_array()) {
        CONCLAVE_TRY(Value value, convert(item, depth + 1));
        items.push_back(std::move(value));
      }
      return Value(std::move(items));
    }
    case boost::json::kind::object: {
      Object object;
      for (const auto& [key, item] : json.get_object()) {
        CONCLAVE_TRY(Value value, convert(item, depth + 1));
        object.set(std::string(key.data(), key.size()), std::move(value));
      }
      return Value(std::move(object));
    }
  }
  return Value();
}

}  // namespace

base::Result<Value> from_json(const boost::json::value& json) { return convert(json, 0); }

base::Result<Value> parse_json(std::string_view text) {
  boost::json::error_code error;
  boost::json::parse_options options;
  options.max_depth = kValueDepthMax;
  const boost::json::value json =
      boost::json::parse({text.data(), text.size()}, error, boost::json::storage_ptr(), options);
  if (error) {
    return base::fail(base::ErrorCode::kInvalidArgument,
                      std::string("not JSON: ") + error.message());
  }
  return from_json(json);
}

}  // namespace conclave::jinja
