// What a client asked for, completely read and checked: no body is left to wait for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "conclave/http/header.hpp"

namespace conclave::http {

struct Request {
  std::string method;           // as sent; methods are case-sensitive
  std::string path;             // before `?`, as sent: still percent-encoded, `*` for OPTIONS *
  std::string query;            // after `?`, as sent; empty if there is none
  std::vector<Header> headers;  // in their order; names in the client's case, values trimmed
  std::string body;             // without its chunked framing
  std::string remote;           // the peer, `127.0.0.1:41000` or `[::1]:41000`

  /// The value of the first field of that name in any case; empty if there is none.
  [[nodiscard]] std::string_view header(std::string_view name) const {
    return find_header(headers, name);
  }
};

}  // namespace conclave::http
