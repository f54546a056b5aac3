#include "conclave/http/uri.hpp"

#include <charconv>

#include "ascii.hpp"

namespace conclave::http {
namespace {

constexpr bool is_unreserved(char c) {
  return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'z') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

std::string plus_as_space(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c == '+') c = ' ';
  }
  return out;
}

}  // namespace

base::Result<std::string> percent_decode(std::string_view text) {
  constexpr std::size_t kDigits = 2;
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    const auto digits = text.substr(i + 1, kDigits);
    unsigned byte = 0;
    const auto end = digits.data() + digits.size();
    const auto [parsed, error] = std::from_chars(digits.data(), end, byte, 16);
    if (digits.size() != kDigits || error != std::errc{} || parsed != end) {
      return base::fail(base::ErrorCode::kInvalidArgument,
                        "a percent sign must be followed by two hexadecimal digits");
    }
    out.push_back(static_cast<char>(byte));
    i += kDigits;
  }
  return out;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (is_unreserved(c)) {
      out.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out.append({'%', kHex[byte >> 4], kHex[byte & 15]});
  }
  return out;
}

std::optional<std::string> query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const auto argument = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), argument.size() + 1));
    const auto equals = argument.find('=');
    const auto key = percent_decode(plus_as_space(argument.substr(0, equals)));
    if (!key || *key != name) continue;
    if (equals == std::string_view::npos) return std::string();
    auto value = percent_decode(plus_as_space(argument.substr(equals + 1)));
    if (!value) return std::nullopt;
    return std::move(*value);
  }
  return std::nullopt;
}

}  // namespace conclave::http
