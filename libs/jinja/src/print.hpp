// Values as text: as `{{ }}` prints them and as tojson writes them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "budget.hpp"
#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

struct JsonStyle {
  std::size_t indent = 0;  // spaces per level; 0: everything on one line
  bool ascii = false;      // \uXXXX for all beyond ASCII
  bool sort_keys = false;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool undefined_as_null = true;  // false: the word `undefined`
  bool tuples = true;             // false: refused; Python's form for them is not JSON's
};

/// Appends at most `bytes_max` bytes in all.
struct TextSink {
  std::string& text;
  std::size_t bytes_max;
  Budget& budget;

  base::Status append(std::string_view piece) const;
};

base::Status write_json(const TextSink& sink, const Value& value, const JsonStyle& style);

/// As `{{ value }}`: nothing for none and undefined, strings as they are, containers as JSON.
base::Status print(const TextSink& sink, const Value& value);

/// As an operand of `~` or of `+` with a string, or an element of join(): what JavaScript makes of
/// it, because that is what the reference does. A float 1.0 is "1", a list its elements with commas
/// between, a dict "[object Map]". none and undefined are the caller's business.
base::Result<std::string> operand_text(const Value& value, Budget& budget);

}  // namespace conclave::jinja
