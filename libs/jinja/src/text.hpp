// Characters and numbers as text: white space, case, code points, and numbers printed the way
// JavaScript prints them, which is what the reference engine does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::jinja {

/// Joins pieces with one allocation.
std::string concat(std::initializer_list<std::string_view> pieces);

/// Bytes of the white space character at the start of `text`, 0 if there is none. White space is
/// JavaScript's: ASCII blanks, no-break space, byte order mark, and the Unicode separators.
std::size_t leading_space(std::string_view text);
std::size_t trailing_space(std::string_view text);

std::string_view trim_start(std::string_view text);
std::string_view trim_end(std::string_view text);
inline std::string_view trim(std::string_view text) { return trim_start(trim_end(text)); }

/// As std::string_view::find, but linear in the worst case: text and needle may be hostile.
std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from = 0);

/// The character at `index`, counted from the end if negative; empty if there is none.
std::string_view character_at(std::string_view text, std::int64_t index);

/// Where each character starts, and the end of the text as last element.
std::vector<std::size_t> character_offsets(std::string_view text);

std::size_t character_count(std::string_view text);

/// Full Unicode mapping, without language or context rules.
std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);

/// Upper-cases the first character and leaves the rest.
std::string capitalize(std::string_view text);

/// Upper-cases every ASCII letter that starts a word of ASCII letters, digits and underscores.
std::string title_case(std::string_view text);

/// Shortest text that reads back as the same double: 1.5, 1e+21, 1e-7; 1 for 1.0.
std::string number_text(double value);

/// As `number_text`, but a whole number keeps a fraction: 1.0.
std::string float_text(double value);

/// The number at the start of `text` after white space, if there is one: parse_int("12px") is 12.
std::optional<double> parse_float_prefix(std::string_view text);

struct IntPrefix {
  bool found = false;
  bool overflow = false;
  std::int64_t value = 0;
};
IntPrefix parse_int_prefix(std::string_view text);

}  // namespace conclave::jinja
