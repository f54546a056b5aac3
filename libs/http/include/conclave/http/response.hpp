// An answer: what a handler gives to the server, and what the client gets from fetch().
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "conclave/http/header.hpp"

namespace conclave::http {

/// The server itself writes Content-Length, Transfer-Encoding, Connection and Date and leaves out
/// fields of these names, as well as fields whose name is no token; line breaks in values become
/// spaces, so no value can end a head early.
struct Response {
  unsigned status = 200;  // 200 to 599; anything else is sent as 500
  std::vector<Header> headers;
  std::string body;
  std::string content_type = "application/json";  // empty: no Content-Type is sent

  [[nodiscard]] std::string_view header(std::string_view name) const {
    return find_header(headers, name);
  }
};

/// `Not Found` for 404; empty for a status that has no name.
std::string_view reason_phrase(unsigned status);

}  // namespace conclave::http
