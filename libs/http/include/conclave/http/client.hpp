// HTTP requests from services, tests and the command line: one call, one request, one connection.
// Follows no redirects and reads no proxy from the environment: services talk to whom they name.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/http/response.hpp"

namespace conclave::http {

struct ClientRequest {
  std::string method = "GET";
  std::string url;              // http:// or https:// (certificates are verified)
  std::vector<Header> headers;  // sent as they are; only Host, Accept and framing are added
  std::string body;
  /// The whole request with its answer, a stream to its end. 0: no limit.
  std::chrono::milliseconds timeout{30'000};
  std::chrono::milliseconds connect_timeout{5'000};
  /// An answer's body that is kept in memory.
  std::size_t body_bytes_max = std::size_t{64} << 20;
  /// Asked to stop, the call returns kCancelled: at once when bytes come, else within a second.
  std::stop_token stop;
};

/// Sends the request and waits for the answer, of whatever status; every call may run in any
/// thread and blocks it. kUnavailable (no such host, refused, connection lost), kDeadlineExceeded,
/// kCancelled, kInvalidArgument (URL, header), kCorruptData (the answer is no HTTP),
/// kFailedPrecondition (the body exceeds body_bytes_max).
base::Result<Response> fetch(const ClientRequest& request);

/// The same, with the body of a 2xx answer given to `on_chunk` as it comes, in this thread; then
/// Response::body is empty. False from it ends the call with kCancelled. The body of any other
/// answer (an error's explanation) is kept in Response::body.
base::Result<Response> stream(const ClientRequest& request,
                              const std::function<bool(std::string_view chunk)>& on_chunk);

}  // namespace conclave::http
