// Percent-encoding and query strings, for handlers that take arguments from a URL.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::http {

/// `%41` becomes `A`. kInvalidArgument for a `%` without two hexadecimal digits. `+` stays.
base::Result<std::string> percent_decode(std::string_view text);

/// Everything but A-Z a-z 0-9 - . _ ~ becomes %XX: safe as one segment of a path or one argument.
std::string percent_encode(std::string_view text);

/// The decoded value of the first `name=value` in a query (`limit=5&after=x`), where `+` is a
/// space; an argument without `=` has an empty value. None: not there, or badly encoded.
std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace conclave::http
