// One request and its answer, given now or later, from any thread, at once or as a stream.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "conclave/http/request.hpp"
#include "conclave/http/response.hpp"

namespace conclave::http {

/// Where a handler answers. Shared: keep it for as long as the answer takes. If it dies without an
/// answer the client gets 500; if it dies within a stream the connection is cut, so that the client
/// sees that the stream is incomplete.
///
/// Every function may be called from any thread and none blocks. It may outlive its Server: then
/// nothing is sent any more. Calls that come too late (a second answer, a chunk after end(), any
/// of them after the client vanished) do nothing, so a timeout and an answer may race: the first
/// one wins.
class Exchange {
 public:
  virtual ~Exchange() = default;

  [[nodiscard]] virtual const Request& request() const = 0;

  /// The whole answer. The body's size is not bounded here.
  virtual void respond(Response response) = 0;

  /// Status and headers of an answer that comes in chunks; the body is ignored. To a client of
  /// HTTP/1.0 the chunks go without framing and end with the connection.
  virtual void begin(Response head) = 0;

  /// The next piece of a stream. Pieces that wait are sent together. An empty one does nothing.
  /// False: it was not taken, because the client is gone, because no stream is open, or because it
  /// and what waits would exceed ServerOptions::stream_buffer_bytes_max; then the client is too
  /// slow and its connection is closed.
  virtual bool write(std::string chunk) = 0;

  /// The stream is complete.
  virtual void end() = 0;

  /// `callback` is called at most once, when the connection is lost (vanished client, write
  /// timeout, overflow, stop of the server) before respond() or end(). It runs on a server
  /// thread, or within this call if that has already happened, and must not block. A later call
  /// replaces the callback. It is dropped with the answer; until then it must not own the exchange
  /// itself (a cycle that only the client could break). A client that only ends its sending side
  /// counts as gone too. One that has sent 64 KiB ahead is noticed only by writing to it.
  virtual void on_close(std::function<void()> callback) = 0;
};

/// Called on a server thread as soon as a request is complete. Must not block (other connections
/// of that thread would wait) and must not throw.
using Handler = std::function<void(std::shared_ptr<Exchange>)>;

}  // namespace conclave::http
