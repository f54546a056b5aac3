#include "ports.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <system_error>

#include "descriptor.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;

namespace {

constexpr const char* kLoopback = "127.0.0.1";
// Below are the ports of well-known and many lesser-known servers.
constexpr unsigned kFirstPort = 10'240;
constexpr unsigned kEndPort = 65'536;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

std::optional<Address> address_of(const std::string& host, std::uint16_t port) {
  Address address;
  sockaddr_in four{};
  sockaddr_in6 six{};
  if (::inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1) {
    four.sin_family = AF_INET;
    four.sin_port = htons(port);
    address.size = sizeof four;
    std::memcpy(&address.storage, &four, sizeof four);
  } else if (::inet_pton(AF_INET6, host.c_str(), &six.sin6_addr) == 1) {
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(port);
    address.size = sizeof six;
    std::memcpy(&address.storage, &six, sizeof six);
  } else {
    return {};
  }
  return address;
}

// 0, or why nobody can listen there.
int listen_problem(const Address& address) {
  const Descriptor socket(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return errno;
  // As servers do: connections of an earlier one that are still closing do not matter.
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const auto* raw = reinterpret_cast<const sockaddr*>(&address.storage);
  const bool good = ::bind(socket.get(), raw, address.size) == 0 && ::listen(socket.get(), 1) == 0;
  return good ? 0 : errno;
}

struct Range {
  unsigned first = 0;
  unsigned end = 0;
};

// The longer one of the ranges below and above the system's own.
Range our_range() {
  unsigned low = 32'768;  // Linux's defaults
  unsigned high = 60'999;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> low >> high;
  const Range below{kFirstPort, low};
  const Range above{high + 1, kEndPort};
  const auto length = [](Range range) {
    return range.end > range.first ? range.end - range.first : 0;
  };
  if (length(below) == 0 && length(above) == 0) return {kFirstPort, kEndPort};
  return length(below) >= length(above) ? below : above;
}

}  // namespace

base::Result<std::vector<std::uint16_t>> free_ports(std::size_t count) {
  const Range range = our_range();
  const unsigned length = range.end - range.first;
  // Processes that look at the same time begin at different places.
  const unsigned begin = static_cast<unsigned>(::getpid()) * 61U;
  std::vector<std::uint16_t> ports;
  for (unsigned i = 0; i < length && ports.size() < count; ++i) {
    const auto port = static_cast<std::uint16_t>(range.first + (begin + i) % length);
    if (listen_problem(*address_of(kLoopback, port)) == 0) ports.push_back(port);
  }
  if (ports.size() < count) return fail(ErrorCode::kUnavailable, "the system has no free port");
  return ports;
}

std::string address_problem(const std::string& host) {
  return address_of(host, 0) ? "" : "'" + host + "' is no IPv4 or IPv6 address";
}

base::Status check_port(const std::string& host, std::uint16_t port) {
  const auto address = address_of(host, port);
  if (!address) return fail(ErrorCode::kInvalidArgument, address_problem(host));
  const int problem = listen_problem(*address);
  if (problem == 0) return {};
  const std::string where = "port " + std::to_string(port) + " of " + host;
  if (problem != EADDRINUSE) {
    return fail(ErrorCode::kUnavailable, where + ": " + std::generic_category().message(problem));
  }
  return fail(ErrorCode::kUnavailable,
              where + " is taken: choose another one with --port, or a free one with --port 0");
}

std::string url_host(const std::string& host) {
  if (host == "0.0.0.0") return kLoopback;
  if (host == "::") return "[::1]";
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

}  // namespace conclave::cli
