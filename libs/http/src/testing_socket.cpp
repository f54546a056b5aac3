#include "testing_socket.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace conclave::http::testing {
namespace {

constexpr long kPatienceSeconds = 10;

}  // namespace

std::string RawResponse::field(std::string_view name) const {
  const std::string start = "\r\n" + std::string(name) + ": ";
  const auto at = head.find(start);
  if (at == std::string::npos) return {};
  const auto value = at + start.size();
  return head.substr(value, head.find("\r\n", value) - value);
}

RawSocket::RawSocket(std::uint16_t port, int receive_bytes, bool ipv6)
    : fd_(::socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval patience{kPatienceSeconds, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (receive_bytes != 0) {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  v6.sin6_addr = in6addr_loopback;
  const auto* address =
      ipv6 ? reinterpret_cast<const sockaddr*>(&v6) : reinterpret_cast<const sockaddr*>(&v4);
  const socklen_t size = ipv6 ? sizeof v6 : sizeof v4;
  connected_ = ::connect(fd_, address, size) == 0;
}

RawSocket::~RawSocket() { close(); }

bool RawSocket::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool RawSocket::receive() {
  std::array<char, 16384> bytes;
  const auto count = ::recv(fd_, bytes.data(), bytes.size(), 0);
  if (count <= 0) return false;
  buffer_.append(bytes.data(), static_cast<std::size_t>(count));
  return true;
}

std::string RawSocket::read_through(std::string_view text) {
  std::size_t end = 0;
  while ((end = buffer_.find(text)) == std::string::npos) {
    if (!receive()) return std::exchange(buffer_, {});
  }
  end += text.size();
  std::string out = buffer_.substr(0, end);
  buffer_.erase(0, end);
  return out;
}

std::string RawSocket::read_to_end() {
  while (receive()) {
  }
  return std::exchange(buffer_, {});
}

RawResponse RawSocket::read_response(bool head_only) {
  RawResponse response;
  response.head = read_through("\r\n\r\n");
  if (!response.head.ends_with("\r\n\r\n")) return response;
  constexpr std::size_t kStatusAt = std::string_view("HTTP/1.1 ").size();
  response.status =
      static_cast<unsigned>(std::strtoul(response.head.c_str() + kStatusAt, nullptr, 10));
  response.complete = true;
  if (head_only) return response;
  if (response.field("Transfer-Encoding") == "chunked") {
    while (true) {
      const std::string line = read_through("\r\n");
      const std::size_t size = std::strtoul(line.c_str(), nullptr, 16);
      while (buffer_.size() < size + 2) {
        if (!receive()) {
          response.complete = false;
          return response;
        }
      }
      response.body += buffer_.substr(0, size);
      buffer_.erase(0, size + 2);
      if (size == 0) return response;
    }
  }
  const std::size_t size = std::strtoul(response.field("Content-Length").c_str(), nullptr, 10);
  while (buffer_.size() < size && receive()) {
  }
  response.complete = buffer_.size() >= size;
  response.body = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return response;
}

bool RawSocket::closed_by_server() {
  while (receive()) {
  }
  std::array<char, 1> byte;
  const auto count = ::recv(fd_, byte.data(), byte.size(), MSG_DONTWAIT);
  return count == 0 || (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK);
}

void RawSocket::shutdown_send() { ::shutdown(fd_, SHUT_WR); }

void RawSocket::close(bool reset) {
  if (fd_ < 0) return;
  const linger how{reset ? 1 : 0, 0};
  if (reset) ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &how, sizeof how);
  ::close(fd_);
  fd_ = -1;
}

}  // namespace conclave::http::testing
