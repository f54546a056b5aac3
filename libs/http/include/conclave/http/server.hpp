// A bounded HTTP/1.1 server: sockets, framing, limits, timeouts and orderly ends, so that handlers
// only see complete, well-formed requests. It knows no routes, no JSON and no TLS.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/http/exchange.hpp"

namespace conclave::http {

/// Gives the answers that the server makes itself (400, 408, 413, 417, 431, 500, 501, 503, 505) the
/// owner's shape. Called on any thread; must not block or throw. The status of what it returns is
/// ignored: a client is told what happened.
using ErrorResponse = std::function<Response(unsigned status, std::string message)>;

/// All timeouts are for a whole phase, whatever trickles in during it, and must be above zero.
struct ServerOptions {
  /// An IPv4 or IPv6 address, not a name. "0.0.0.0": every IPv4 address; "::": those of both.
  std::string address = "127.0.0.1";
  /// 0: any free one, see Server::port().
  std::uint16_t port = 0;
  /// Each serves its own share of the connections. One is enough where handlers only pass on.
  unsigned threads = 1;

  /// A request's body. 413 beyond. A prompt of 128k tokens is below 1 MiB.
  std::size_t body_bytes_max = std::size_t{8} << 20;
  /// A request's line and its header fields. 431 beyond. At least 256.
  std::size_t header_bytes_max = std::size_t{16} << 10;
  /// Open connections. Each holds a descriptor, 4 to 64 KiB to read into, and its answer. Beyond, a
  /// connection is answered with 503 and Retry-After, and closed.
  std::size_t connections_max = 1024;
  /// What may wait in one stream for a slow client, beyond what the kernel takes: a token is about
  /// 200 bytes of JSON, so this is thousands of tokens.
  std::size_t stream_buffer_bytes_max = std::size_t{1} << 20;
  std::chrono::seconds retry_after{1};

  /// From the connection's opening, or a later request's first byte, to the end of its header.
  std::chrono::milliseconds header_timeout{10'000};
  /// From the end of the header to the end of the body.
  std::chrono::milliseconds body_timeout{30'000};
  /// Between an answer and the next request's first byte.
  std::chrono::milliseconds idle_timeout{75'000};
  /// For what is written at once: a whole answer, or the chunks that waited.
  std::chrono::milliseconds write_timeout{30'000};
  /// After an answer that ends a connection early: how long input is still read and thrown away, so
  /// that the answer is not lost to a reset.
  std::chrono::milliseconds linger_timeout{1'000};

  /// None: the message as plain text.
  ErrorResponse error_response;
  /// Seconds since the epoch, for the Date field; none: no such field. Called on any thread.
  std::function<std::int64_t()> unix_time;
};

/// Counts since the start, except the first two.
struct ServerStats {
  std::uint64_t connections_open = 0;
  std::uint64_t exchanges_running = 0;     // handed to the handler, answer not yet fully sent
  std::uint64_t connections_accepted = 0;  // without the refused ones
  std::uint64_t connections_refused = 0;   // beyond connections_max
  std::uint64_t requests = 0;              // handed to the handler
  std::uint64_t requests_rejected = 0;     // answered by the server: malformed, too large, too slow
  std::uint64_t timeouts = 0;            // connections ended by header, body, idle or write timeout
  std::uint64_t clients_vanished = 0;    // connections lost before their answer was complete
  std::uint64_t streams_overflowed = 0;  // closed for stream_buffer_bytes_max
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
};

/// Owns its threads and sockets. All functions may be called from any thread, except that the
/// destructor must not run on a server thread (in a handler or callback).
class Server {
 public:
  /// Listens and serves from then on. kInvalidArgument (address, a zero limit), kUnavailable (the
  /// system refuses: the address is in use or not ours, no right to the port, no thread).
  static base::Result<std::unique_ptr<Server>> start(const ServerOptions& options, Handler handler);

  virtual ~Server() = default;  // closes every connection (their on_close is called) and joins

  [[nodiscard]] virtual std::uint16_t port() const = 0;

  /// No new connections; idle ones are closed; running exchanges end with `Connection: close`.
  virtual void drain() = 0;

  /// True once no request is being read, handled or answered; false if `deadline` comes first.
  /// Only lasting after drain().
  virtual bool wait_idle(std::chrono::steady_clock::time_point deadline) = 0;

  [[nodiscard]] virtual ServerStats stats() const = 0;
};

}  // namespace conclave::http
