// Requests of a benchmark on their way: many at once, in one thread. Two of them, because the one
// that speaks https costs three times as much for each request, on processors that the server
// needs.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/http/header.hpp"

namespace conclave::cli {

/// Hears of the answers, within Transport::wait().
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  /// Bytes of the body. False: nothing of this answer is wanted any more; it ends with kCancelled.
  virtual bool on_body(std::size_t slot, unsigned status, std::string_view bytes) = 0;
  /// The answer is whole (its status), or there is none: kFailedPrecondition (no connection),
  /// kUnavailable (it was lost), kDeadlineExceeded, kCorruptData (no HTTP), kCancelled.
  virtual void on_end(std::size_t slot, base::Result<unsigned> status) = 0;
};

struct TransportSettings {
  std::string url;
  std::vector<http::Header> headers;
  std::chrono::milliseconds timeout{0};  // of one request; 0: none
};

/// POSTs to one URL. A slot has at most one request under way and keeps its connection from one to
/// the next. Calls to the sink may send() on the slot that has ended.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual void send(std::size_t slot, std::string body) = 0;
  /// Gives up what is under way; the sink does not hear of it.
  virtual void abandon(std::size_t slot) = 0;
  /// Waits for events, `most` at the longest, and takes them in.
  virtual void wait(std::chrono::nanoseconds most) = 0;
};

/// Plain http over sockets of our own. The host's name is looked up now, and waited for.
/// kInvalidArgument: no http:// URL; kUnavailable: no such host, or no descriptors.
base::Result<std::unique_ptr<Transport>> socket_transport(const TransportSettings& settings,
                                                          std::size_t slots, AnswerSink& sink);

/// http and https over libcurl. kUnavailable: it cannot be set up.
base::Result<std::unique_ptr<Transport>> curl_transport(const TransportSettings& settings,
                                                        std::size_t slots, AnswerSink& sink);

}  // namespace conclave::cli
