// For tests: ends of a data link made of bare sockets, which do what CallClient and CallServer
// never do. They do not block; a test drives the honest end meanwhile.
#pragma once

#include <optional>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "conclave/fabric/keys.hpp"
#include "data_protocol.hpp"
#include "local_socket.hpp"
#include "shared_segment.hpp"
#include "testing_calls.hpp"

namespace conclave::fabric::testing {

struct RawMessage {
  wire::Envelope envelope;
  wire::Message body;
  std::vector<std::byte> payload;
};

/// A router that breaks the rules.
class RawRouter {
 public:
  /// Speaks with these keys to the server of this key.
  RawRouter(Ends& ends, const KeyPair& keys);

  void send(const std::vector<wire::Bytes>& frames);
  void send(const wire::Envelope& envelope, const wire::Message& body,
            const wire::Bytes& payload = {});
  /// The next answer; drives the worker while it waits. Nothing within kPatience: a test fails.
  RawMessage receive();
  /// Hello and welcome. Returns what memory was offered.
  std::optional<LocalOffer> link();

  /// The envelope of a call whose payload has so many bytes.
  wire::Envelope request(std::size_t payload_bytes);

 private:
  Ends& ends_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  std::uint64_t next_ = 1;
};

/// Its end of the local road.
class RawLocal {
 public:
  RawLocal(Ends& ends, const Random128& name);

  bool send(std::span<const std::byte> bytes, int passed = -1);
  bool send(const wire::Envelope& envelope, const wire::Message& body, std::uint64_t offset);
  /// The next packet; drives the worker while it waits. Nothing: the connection ended.
  std::optional<std::vector<std::byte>> receive();
  /// The same, taken apart.
  RawMessage receive_message();

 private:
  Ends& ends_;
  LocalSocket socket_;
};

/// A worker that breaks the rules, at an address of its own.
class RawWorker {
 public:
  RawWorker(Ends& ends, const KeyPair& keys);

  [[nodiscard]] const std::string& address() const { return address_; }
  /// The next message; drives the router while it waits.
  RawMessage receive();
  /// To whoever sent last.
  void send(const wire::Envelope& envelope, const wire::Message& body,
            const wire::Bytes& payload = {});
  void send(const std::vector<wire::Bytes>& frames);
  /// Takes a hello and welcomes whoever said it.
  void link();
  /// The envelope of a reply to this call.
  static wire::Envelope reply_to(const RawMessage& call, std::size_t payload_bytes);

 private:
  Ends& ends_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  std::string address_;
  std::string peer_;
};

}  // namespace conclave::fabric::testing
