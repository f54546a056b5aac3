// For tests: a client that sends exactly the bytes it is told to, at the moment it is told to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::http::testing {

struct RawResponse {
  unsigned status = 0;  // 0: the connection ended before a whole response came
  std::string head;     // with the status line
  std::string body;     // without chunked framing
  bool complete = false;

  /// The value of a field, by its exact name; empty if there is none.
  [[nodiscard]] std::string field(std::string_view name) const;
};

/// One TCP connection on loopback. Every wait ends after some seconds, so that a test that fails
/// does not hang; then it looks as if the server had closed.
class RawSocket {
 public:
  /// `receive_bytes`: a small receive buffer makes a slow reader of it.
  explicit RawSocket(std::uint16_t port, int receive_bytes = 0, bool ipv6 = false);
  ~RawSocket();
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  /// False once the server has closed.
  bool send(std::string_view bytes);
  /// The next response; `head_only`: to a HEAD request, without a body.
  RawResponse read_response(bool head_only = false);
  /// What comes until (and with) `text`, or until the end.
  std::string read_through(std::string_view text);
  std::string read_to_end();
  /// True if the server has ended the connection by an orderly close or a reset.
  bool closed_by_server();
  void shutdown_send();
  /// `reset`: with a TCP reset instead of an orderly end.
  void close(bool reset = false);

 private:
  bool receive();  // more into buffer_; false at the end

  int fd_ = -1;
  bool connected_ = false;
  std::string buffer_;
};

}  // namespace conclave::http::testing
