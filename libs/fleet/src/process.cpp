#include "conclave/fleet/process.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "conclave/fabric/system.hpp"

namespace conclave::fleet {

struct Process::Actors {
  fabric::SystemConfig config;
  caf::actor_system system{config};
};

Process::Process(std::unique_ptr<fabric::Context> context)
    : context_(std::move(context)), actors_(std::make_unique<Actors>()) {}

Process::~Process() = default;

caf::actor_system& Process::system() { return actors_->system; }

base::Result<std::unique_ptr<Process>> Process::create(const std::string& keys_directory,
                                                       wire::NodeRole role, telemetry::Logger log,
                                                       telemetry::Metrics& metrics) {
  std::optional<fabric::KeyRing> keys;
  if (!keys_directory.empty()) {
    CONCLAVE_TRY(keys, fabric::KeyRing::load(keys_directory, role));
  }
  CONCLAVE_TRY(auto context, fabric::Context::create(std::move(keys), std::move(log), metrics));
  return std::unique_ptr<Process>(new Process(std::move(context)));
}

base::Result<ProcessRef> ProcessRef::take(Process* shared, const std::string& keys_directory,
                                          wire::NodeRole role, telemetry::Logger log,
                                          telemetry::Metrics& metrics) {
  ProcessRef ref;
  if (shared == nullptr) {
    CONCLAVE_TRY(ref.own_, Process::create(keys_directory, role, std::move(log), metrics));
    shared = ref.own_.get();
  }
  ref.process_ = shared;
  return ref;
}

std::uint64_t incarnation_at(std::chrono::system_clock::time_point start) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(start.time_since_epoch()).count());
}

namespace {

// What this host's name means to itself, as an IPv4 address; the name where that is loopback or
// nothing; empty: it has none.
std::string own_address() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return {};
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(name.data(), nullptr, &hints, &found) != 0) return name.data();
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (::getnameinfo(at->ai_addr, at->ai_addrlen, text.data(), text.size(), nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      continue;
    }
    if (!std::string_view(text.data()).starts_with("127.")) return text.data();
  }
  return name.data();
}

// The address of this host from which the first of `peers` would be reached; empty if that says
// nothing to others: a name (which may take long to resolve), loopback, or no way there now.
std::string address_towards(std::span<const std::string> peers) {
  constexpr std::string_view kTcp = "tcp://";
  if (peers.empty()) return {};
  const std::string_view peer = peers.front();
  const std::size_t colon = peer.rfind(':');
  if (!peer.starts_with(kTcp) || colon < kTcp.size()) return {};
  const std::string host(peer.substr(kTcp.size(), colon - kTcp.size()));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(1);  // of a socket without connections: nothing is sent
  if (::inet_pton(AF_INET, host.c_str(), &to.sin_addr) != 1) return {};
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return {};
  sockaddr_in own{};
  socklen_t size = sizeof own;
  std::array<char, INET_ADDRSTRLEN> text{};
  const bool known =
      ::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
      ::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
      ::inet_ntop(AF_INET, &own.sin_addr, text.data(), static_cast<socklen_t>(text.size()));
  ::close(socket);
  return known && !std::string_view(text.data()).starts_with("127.") ? text.data() : "";
}

}  // namespace

std::string advertised_address(const std::string& advertised, const std::string& bound,
                               std::span<const std::string> peers) {
  if (!advertised.empty()) return advertised;
  for (const std::string_view everywhere : {"tcp://0.0.0.0:", "tcp://[::]:"}) {
    if (!bound.starts_with(everywhere)) continue;
    std::string host = address_towards(peers);
    if (host.empty()) host = own_address();
    if (host.empty()) break;
    return "tcp://" + host + ":" + bound.substr(everywhere.size());
  }
  return bound;
}

}  // namespace conclave::fleet
