#include "client_headers.hpp"

#include <algorithm>
#include <array>

#include "conclave/wire/limits.hpp"

namespace conclave::gateway {
namespace {

bool is_id_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-_.:/+=@~").find(c) != std::string_view::npos;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;  // upper case is malformed here
  return -1;
}

template <std::size_t N>
bool parse_hex(std::string_view text, std::array<std::uint8_t, N>& bytes) {
  for (std::size_t i = 0; i < N; ++i) {
    const int high = hex_digit(text[2 * i]);
    const int low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return true;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

bool is_request_id(std::string_view id) {
  return !id.empty() && id.size() <= wire::kRequestIdBytesMax &&
         std::all_of(id.begin(), id.end(), is_id_character);
}

std::optional<wire::TraceContext> parse_traceparent(std::string_view header) {
  // 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
  constexpr std::size_t kLength = 55;
  if (header.size() < kLength) return std::nullopt;
  std::array<std::uint8_t, 1> version{};
  std::array<std::uint8_t, 1> flags{};
  wire::TraceContext trace;
  const bool shaped =
      header[2] == '-' && header[35] == '-' && header[52] == '-' &&
      parse_hex(header.substr(0, 2), version) && parse_hex(header.substr(3, 32), trace.trace_id) &&
      parse_hex(header.substr(36, 16), trace.span_id) && parse_hex(header.substr(53, 2), flags);
  if (!shaped || version[0] == 0xFF) return std::nullopt;
  // Later versions may append fields.
  if (header.size() > kLength && (version[0] == 0 || header[kLength] != '-')) return std::nullopt;
  if (trace.empty() || trace.span_id == std::array<std::uint8_t, 8>{}) return std::nullopt;
  trace.flags = flags[0];
  return trace;
}

std::string hex_id(std::uint64_t high, std::uint64_t low) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string id;
  for (const std::uint64_t half : {high, low}) {
    for (int shift = 60; shift >= 0; shift -= 4) id.push_back(kHex[(half >> shift) & 0xF]);
  }
  return id;
}

bool is_json_type(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  type.erase(type.find_last_not_of(" \t") + 1);
  std::transform(type.begin(), type.end(), type.begin(), lower);
  return type.empty() || type == "application/json" ||
         (type.starts_with("application/") && type.ends_with("+json"));
}

}  // namespace conclave::gateway
