// Letters and digits as protocols mean them: ASCII, whatever the locale.
#pragma once

#include <algorithm>
#include <string_view>

namespace conclave::http {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

constexpr char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

constexpr bool equals_no_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return to_lower(x) == to_lower(y); });
}

constexpr bool starts_with_no_case(std::string_view text, std::string_view prefix) {
  return equals_no_case(text.substr(0, prefix.size()), prefix);
}

}  // namespace conclave::http
