// Reads the fields of a request's JSON object one by one. The first thing that is wrong is kept,
// with the field's name; later reads go on with their fallbacks, so that a parser is a list of
// fields.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api_error.hpp"

namespace conclave::gateway {

/// A body nests its tools' JSON schemas; nobody nests deeper. Routers take as much.
inline constexpr std::size_t kJsonDepthMax = 64;

/// The object that a request's body is; 400 if it is none.
Parsed<boost::json::object> parse_body(std::string_view body);

/// Borrows the object. One thread.
class JsonFields {
 public:
  explicit JsonFields(const boost::json::object& object) : object_(object) {}

  /// Null if the field is absent or null: clients send both for "the default".
  [[nodiscard]] const boost::json::value* find(std::string_view name) const;

  bool boolean(std::string_view name, bool fallback);
  /// Also takes 5.0 for 5.
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t least, std::int64_t most);
  float number(std::string_view name, float fallback, float least, float most);
  std::optional<std::string> text(std::string_view name);
  const boost::json::array* array(std::string_view name);
  const boost::json::object* object(std::string_view name);

  /// Kept if it is the first one.
  void fail(ApiError error) {
    if (!error_) error_ = std::move(error);
  }
  void fail(std::string param, std::string message, std::string code = "invalid_value") {
    fail(invalid_field(std::move(param), std::move(message), std::move(code)));
  }
  [[nodiscard]] bool ok() const { return !error_; }
  [[nodiscard]] const std::optional<ApiError>& error() const { return error_; }

 private:
  void wrong_type(std::string_view name, std::string_view wanted);

  const boost::json::object& object_;
  std::optional<ApiError> error_;
};

/// A whole number that fits, be it written as 5 or 5.0.
std::optional<std::int64_t> whole_number(const boost::json::value& value);

/// Token ids; none if one of them is no integer of 0 to 2^31 - 1.
std::optional<std::vector<std::int32_t>> token_ids(const boost::json::array& array);

}  // namespace conclave::gateway
