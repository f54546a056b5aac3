// Administration over HTTP on its way from the gateway to its owner. Rules: schemas/admin.capnp.
#pragma once

#include <cstdint>
#include <string>

#include "conclave/wire/ledger.hpp"

namespace conclave::wire {

/// Answered by AdminReply.
struct AdminRequest {
  std::string method;
  std::string path;   // percent-encoded
  std::string query;  // without the question mark
  std::string body;   // JSON, or nothing
  std::string if_match;
  std::string request_id;
  Subject subject;

  friend bool operator==(const AdminRequest&, const AdminRequest&) = default;
};

struct AdminReply {
  std::uint16_t status = 0;  // of HTTP
  std::string content_type;  // empty: there is no body
  std::string body;
  std::string etag;      // with its quotation marks
  std::string location;  // of what was made, or of an operation
  bool stale = false;    // read from a snapshot
  std::uint32_t retry_after_s = 0;

  friend bool operator==(const AdminReply&, const AdminReply&) = default;
};

}  // namespace conclave::wire
