// Bytes in, one Request out. The grammar is Beast's; what is refused beyond it is whatever two
// servers could read differently (request smuggling, RFC 9112 sections 6.1 and 11.2).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/http/request.hpp"

namespace conclave::http {

struct ParserLimits {
  std::size_t header_bytes_max;
  std::size_t body_bytes_max;
};

/// Parses one request after the other. Not thread-safe. Bounded by its limits, plus what the caller
/// lets wait for a chunk header or trailer to be complete.
class RequestParser {
 public:
  enum class State { kHeader, kBody, kDone, kFailed };

  struct Failure {
    unsigned status = 0;
    std::string message;
  };

  explicit RequestParser(const ParserLimits& limits);
  ~RequestParser();

  /// Parses what it can of `bytes`, which begin where the last call stopped taking them, and
  /// returns how many it took. Only in kHeader and kBody. It takes none of the next request.
  std::size_t feed(std::string_view bytes);

  [[nodiscard]] State state() const;
  /// True once a request has begun, at its first byte other than empty lines before it.
  [[nodiscard]] bool begun() const;

  // From kBody on:
  [[nodiscard]] bool keep_alive() const;
  [[nodiscard]] bool http_1_0() const;
  [[nodiscard]] bool expects_continue() const;

  /// In kFailed: how to answer.
  [[nodiscard]] const Failure& failure() const;

  /// In kDone: the request, without `remote`; then the parser is ready for the next one.
  Request take();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::http
