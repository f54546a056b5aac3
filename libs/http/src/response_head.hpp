// The head of a response as bytes: status line, fields, and how its body ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "conclave/http/response.hpp"

namespace conclave::http {

struct HeadTerms {
  enum class Framing { kLength, kChunked, kUntilClose };

  Framing framing = Framing::kLength;
  bool keep_alive = true;
  bool http_1_0 = false;  // what the client speaks: it must be told that a connection stays
  std::optional<std::int64_t> unix_time;  // for the Date field
};

/// 204 and 304 have no body, whatever the handler says.
bool may_have_body(unsigned status);

/// Appends the head with its empty line. For kLength the length is that of `response.body`.
void append_head(std::string& out, const Response& response, const HeadTerms& terms);

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7), years 1970 to 9999.
std::string http_date(std::int64_t unix_time);

}  // namespace conclave::http
