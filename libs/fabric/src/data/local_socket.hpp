// The doorbell of two processes of one host: a local connection that carries headers as whole
// packets, and passes the descriptor of the memory in which payloads lie. A packet wakes the peer's
// thread itself, where ZeroMQ wakes two threads of its own on the way.
//
// The address is an abstract one (Linux): a name that is drawn at random and told over the link
// that has proved who it is. It leaves nothing in a file system, and reaches as far as the network
// namespace does: all of a host's processes, or the containers of a pod.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "conclave/base/result.hpp"
#include "descriptor.hpp"

namespace conclave::fabric {

using Random128 = std::array<std::uint8_t, 16>;

/// From the system. Nothing: it has none (an old kernel at boot).
std::optional<Random128> draw_random();

/// One connection. One thread.
class LocalSocket {
 public:
  LocalSocket() = default;
  explicit LocalSocket(Descriptor descriptor) : descriptor_(std::move(descriptor)) {}
  /// Does not block. kUnavailable: nobody listens there, or not on this host.
  static base::Result<LocalSocket> connect(const Random128& name);

  [[nodiscard]] bool ok() const { return descriptor_.ok(); }
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  void close() { descriptor_.reset(); }

  static constexpr std::size_t kPartsMax = 3;
  /// One packet made of these parts, at most kPartsMax; with a descriptor unless it is -1. Does not
  /// block. False: the peer is gone, or does not read.
  bool send(std::span<const std::span<const std::byte>> parts, int passed = -1);

  struct Packet {
    enum class State { kNone, kPacket, kGone };
    State state = State::kNone;
    std::span<const std::byte> bytes;  // in the caller's buffer; empty if it was too large for it
    Descriptor passed;
  };
  /// The next packet. Does not block. Descriptors beyond one are closed.
  Packet receive(std::span<std::byte> buffer);

 private:
  Descriptor descriptor_;
};

/// Where a server waits for the routers of its host. One thread.
class LocalListener {
 public:
  /// kUnavailable: the system has no such sockets.
  static base::Result<LocalListener> create();

  [[nodiscard]] const Random128& name() const { return name_; }
  [[nodiscard]] int descriptor() const { return descriptor_.get(); }
  /// Nothing: nobody waits.
  std::optional<LocalSocket> accept();

 private:
  LocalListener(Descriptor descriptor, const Random128& name)
      : descriptor_(std::move(descriptor)), name_(name) {}

  Descriptor descriptor_;
  Random128 name_;
};

}  // namespace conclave::fabric
