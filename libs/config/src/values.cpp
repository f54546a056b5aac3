#include "conclave/config/values.hpp"

#include <cmath>

#include "conclave/base/text.hpp"

namespace conclave::config {
namespace {

template <class T>
std::string shortest(T value) {
  char digits[64];  // the longest double has 24
  const auto done = std::to_chars(digits, digits + sizeof digits, value);
  return {digits, done.ptr};
}

// TOML tells floats from integers by the point or the exponent.
template <class T>
std::string print_float(T value) {
  std::string text = shortest(value);
  const bool is_plain = std::isfinite(value) && text.find_first_of(".e") == std::string::npos;
  return is_plain ? text + ".0" : text;
}

}  // namespace

std::string print_toml(std::int64_t value) { return shortest(value); }
std::string print_toml(std::uint64_t value) { return shortest(value); }
std::string print_toml(double value) { return print_float(value); }
std::string print_toml(float value) { return print_float(value); }

std::string print_toml(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string print_toml(const std::vector<std::string>& list) {
  std::string out = "[";
  for (const std::string& text : list) {
    out += (out.size() > 1 ? ", " : "") + print_toml(std::string_view(text));
  }
  return out + "]";
}

std::string not_a_value(std::string_view text, std::string_view accepts) {
  return base::shown(text) + " is not " + std::string(accepts);
}

std::optional<bool> Switch::parse(std::string_view text) {
  if (text == "true" || text == "1" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "0" || text == "no" || text == "off") return false;
  return {};
}

}  // namespace conclave::config
