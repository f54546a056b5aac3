// What filters and methods of strings share.
#pragma once

#include <string_view>

#include "builtins.hpp"

namespace conclave::jinja {

enum class StripSides : std::uint8_t { kBoth, kLeft, kRight };

/// strip(), lstrip(), rstrip(): white space, or the characters of the argument.
base::Result<Value> strip_text(Interpreter& interpreter, std::string_view text,
                               const Arguments& arguments, StripSides sides);

/// split(sep=none, maxsplit=-1).
base::Result<Value> split_text(Interpreter& interpreter, std::string_view text,
                               const Arguments& arguments);

/// replace(old, new, count=none).
base::Result<Value> replace_text(Interpreter& interpreter, std::string_view text,
                                 const Arguments& arguments);

}  // namespace conclave::jinja
