#include <charconv>
#include <optional>

#include "conclave/quota/redis.hpp"

namespace conclave::quota {

using base::ErrorCode;
using base::fail;
using base::Result;

namespace {

constexpr std::size_t kUrlBytesMax = 1024;

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::string> decoded(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain.push_back(text[i]);
      continue;
    }
    unsigned byte = 0;
    const char* const digits = text.data() + i + 1;
    if (i + 2 >= text.size()) return std::nullopt;
    const auto [end, error] = std::from_chars(digits, digits + 2, byte, 16);
    if (error != std::errc() || end != digits + 2) return std::nullopt;
    plain.push_back(static_cast<char>(byte));
    i += 2;
  }
  return plain;
}

auto bad(const char* what) {
  return fail(
      ErrorCode::kInvalidArgument,
      std::string("redis: ") + what + "; it is redis://[[user]:password@]host[:port][/database]");
}

}  // namespace

Result<RedisAddress> parse_redis_url(std::string_view url) {
  constexpr std::string_view kScheme = "redis://";
  if (url.size() > kUrlBytesMax) return bad("the URL is too long");
  if (url.starts_with("rediss://")) return bad("there is no TLS to Redis");
  if (!url.starts_with(kScheme)) return bad("the URL does not begin with redis://");
  url.remove_prefix(kScheme.size());
  RedisAddress address;
  if (const auto slash = url.find('/'); slash != std::string_view::npos) {
    const std::string_view path = url.substr(slash + 1);
    const auto database = path.empty() ? std::optional(0u) : number<unsigned>(path);
    if (!database || *database > 65'535) return bad("the database is no number up to 65535");
    address.database = *database;
    url = url.substr(0, slash);
  }
  if (const auto at = url.rfind('@'); at != std::string_view::npos) {
    const std::string_view who = url.substr(0, at);
    const auto colon = who.find(':');
    if (colon == std::string_view::npos) return bad("the password stands behind a colon");
    const auto user = decoded(who.substr(0, colon));
    const auto password = decoded(who.substr(colon + 1));
    if (!user || !password) return bad("the password is not percent-encoded");
    if (!user->empty() && password->empty()) return bad("the user has no password");
    address.user = *user;
    address.password = *password;
    url = url.substr(at + 1);
  }
  std::string_view rest;
  if (url.starts_with('[')) {  // an IPv6 address
    const auto end = url.find(']');
    if (end == std::string_view::npos) return bad("a ] is missing");
    address.host = url.substr(1, end - 1);
    rest = url.substr(end + 1);
  } else {
    const auto colon = url.find(':');
    address.host = url.substr(0, colon);
    if (colon != std::string_view::npos) rest = url.substr(colon);
  }
  if (address.host.empty()) return bad("the host is missing");
  if (rest.empty()) return address;
  const auto port = rest.starts_with(':') ? number<std::uint16_t>(rest.substr(1)) : std::nullopt;
  if (!port || *port == 0) return bad("the port is no number from 1 to 65535");
  address.port = *port;
  return address;
}

}  // namespace conclave::quota
