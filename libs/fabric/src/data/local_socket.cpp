#include "local_socket.hpp"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "conclave/base/check.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;

namespace {

constexpr int kType = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;
/// Routers that connect at the same moment; one that finds the queue full uses frames.
constexpr int kBacklog = 128;
/// Descriptors that one packet may bring before the system itself cuts them off.
constexpr std::size_t kPassedMax = 4;

tl::unexpected<base::Error> system_failure(const char* what) {
  return fail(ErrorCode::kUnavailable,
              std::string(what) + ": " + std::generic_category().message(errno));
}

struct Address {
  sockaddr_un address{};
  socklen_t size = 0;

  explicit Address(const Random128& name) {
    constexpr std::string_view kPrefix = "conclave-";
    constexpr std::string_view kDigits = "0123456789abcdef";
    address.sun_family = AF_UNIX;
    char* to = address.sun_path + 1;  // a zero first: not a path
    to = std::copy(kPrefix.begin(), kPrefix.end(), to);
    for (const std::uint8_t byte : name) {
      *to++ = kDigits[byte >> 4];
      *to++ = kDigits[byte & 15];
    }
    size = static_cast<socklen_t>(to - reinterpret_cast<char*>(&address));
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

/// The first descriptor that came with a packet; the others are closed.
Descriptor take_passed(msghdr& message) {
  Descriptor first;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int raw = -1;
      std::memcpy(&raw, CMSG_DATA(part) + i * sizeof raw, sizeof raw);
      Descriptor passed(raw);
      if (!first.ok()) first = std::move(passed);
    }
  }
  return first;
}

}  // namespace

std::optional<Random128> draw_random() {
  Random128 bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return std::nullopt;
  }
  return bytes;
}

base::Result<LocalSocket> LocalSocket::connect(const Random128& name) {
  Descriptor descriptor(::socket(AF_UNIX, kType, 0));
  if (!descriptor.ok()) return system_failure("socket");
  const Address address(name);
  if (::connect(descriptor.get(), address.get(), address.size) != 0) {
    return system_failure("connect");
  }
  return LocalSocket(std::move(descriptor));
}

bool LocalSocket::send(std::span<const std::span<const std::byte>> parts, int passed) {
  CONCLAVE_CHECK(parts.size() <= kPartsMax);
  std::array<iovec, kPartsMax> pieces{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    pieces[i] = {const_cast<std::byte*>(parts[i].data()), parts[i].size()};
  }
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = parts.size();
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (passed >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof passed);
    std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(descriptor_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

LocalSocket::Packet LocalSocket::receive(std::span<std::byte> buffer) {
  iovec piece{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kPassedMax * sizeof(int))> control{};
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(descriptor_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  Packet packet;
  if (got < 0) {
    const bool nothing = errno == EAGAIN || errno == EWOULDBLOCK;
    packet.state = nothing ? Packet::State::kNone : Packet::State::kGone;
    return packet;
  }
  packet.passed = take_passed(message);
  // An empty packet looks like the end, and nobody of ours sends one.
  packet.state = got == 0 ? Packet::State::kGone : Packet::State::kPacket;
  if ((message.msg_flags & MSG_TRUNC) == 0) packet.bytes = buffer.first(static_cast<size_t>(got));
  return packet;
}

base::Result<LocalListener> LocalListener::create() {
  const auto name = draw_random();
  if (!name) return system_failure("getrandom");
  Descriptor descriptor(::socket(AF_UNIX, kType, 0));
  if (!descriptor.ok()) return system_failure("socket");
  const Address address(*name);
  if (::bind(descriptor.get(), address.get(), address.size) != 0) return system_failure("bind");
  if (::listen(descriptor.get(), kBacklog) != 0) return system_failure("listen");
  return LocalListener(std::move(descriptor), *name);
}

std::optional<LocalSocket> LocalListener::accept() {
  Descriptor accepted(::accept4(descriptor_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!accepted.ok()) return std::nullopt;
  return LocalSocket(std::move(accepted));
}

}  // namespace conclave::fabric
