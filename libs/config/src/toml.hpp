// The part of TOML that settings need: tables, bare and quoted and dotted keys, strings on one
// line, numbers, booleans and arrays of these. What it does not know (dates, inline tables, arrays
// of tables, text over several lines) it refuses, with the line. CLI11's own reader takes a `#`
// inside a string for a comment, ignores escapes and reads a stray word as a switch, silently.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::config {

struct TomlItem {
  std::vector<std::string> path;  // of tables and key: at least one part
  std::vector<std::string> values;
  bool is_list = false;  // else there is exactly one value
  std::size_t line = 0;  // from 1
};

/// A settings file is written by hand; a larger one is something else.
inline constexpr std::size_t kTomlBytesMax = std::size_t{1} << 20;

/// Every key with its values, in the order of the file. kInvalidArgument with the line's number.
/// A key that comes twice is an error, as TOML has it.
base::Result<std::vector<TomlItem>> read_toml(std::string_view text);

}  // namespace conclave::config
