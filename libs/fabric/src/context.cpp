#include "conclave/fabric/context.hpp"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "conclave/base/check.hpp"
#include "context_internal.hpp"
#include "link_password.hpp"

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;
using wire::NodeRole;

namespace {

constexpr const char* kZapAddress = "inproc://zeromq.zap.01";
/// ZeroMQ's default of 1023 is too small for a router with hundreds of workers: a link takes three.
constexpr int kSocketsMax = 16384;
/// A peer that has not proved itself after this long is dropped.
constexpr int kHandshakeMs = 5000;
/// A connection attempt that the network swallows ends after this, and the next begins.
constexpr int kConnectMs = 5000;
constexpr auto kRefusalLogInterval = std::chrono::minutes(1);

/// Encryption runs on ZeroMQ's own threads, at about 2 GB/s each.
int io_threads() {
  return static_cast<int>(std::clamp(std::thread::hardware_concurrency() / 4, 1u, 4u));
}

std::optional<NodeRole> role_named(std::string_view name) {
  for (int i = 1; i <= wire::kNodeRoleCount; ++i) {
    const auto role = static_cast<NodeRole>(i);
    if (to_string(role) == name) return role;
  }
  return std::nullopt;
}

base::Status zmq_failure(const zmq::error_t& error) {
  return fail(ErrorCode::kUnavailable, std::string("ZeroMQ: ") + error.what());
}

}  // namespace

std::string_view to_string(Refusal reason) {
  switch (reason) {
    case Refusal::kNoKey:
      return "no_key";
    case Refusal::kUnknownKey:
      return "unknown_key";
    case Refusal::kWrongRole:
      return "wrong_role";
    case Refusal::kMalformed:
      return "malformed";
    case Refusal::kOversized:
      return "oversized";
    case Refusal::kVersion:
      return "version";
    case Refusal::kUnknownTarget:
      return "unknown_target";
    case Refusal::kOverloaded:
      return "overloaded";
    case Refusal::kStale:
      return "stale";
  }
  return "unknown";
}

bool is_inproc(std::string_view address) { return address.starts_with("inproc://"); }

bool is_direct(std::string_view address) {
  constexpr std::string_view kScheme = "direct://";
  return address.starts_with(kScheme) && address.size() > kScheme.size();
}

bool is_address(std::string_view address) {
  for (const std::string_view scheme : {"tcp://", "ipc://", "inproc://"}) {
    if (address.starts_with(scheme)) return address.size() > scheme.size();
  }
  return false;
}

SocketMonitor::SocketMonitor(zmq::context_t& context, zmq::socket_t& socket, int events,
                             const std::string& address)
    : watched_(socket.handle()), pair_(context, zmq::socket_type::pair) {
  if (zmq_socket_monitor(watched_, address.c_str(), events) != 0) throw zmq::error_t();
  // Reports are sent by ZeroMQ's own threads, which a full or absent queue would block.
  pair_.set(zmq::sockopt::rcvhwm, 0);
  pair_.set(zmq::sockopt::linger, 0);
  pair_.connect(address);
}

SocketMonitor& SocketMonitor::operator=(SocketMonitor&& other) noexcept {
  if (this != &other) {
    close();
    watched_ = std::exchange(other.watched_, nullptr);
    pair_ = std::move(other.pair_);
  }
  return *this;
}

void SocketMonitor::close() {
  if (watched_ != nullptr) zmq_socket_monitor(watched_, nullptr, 0);
  watched_ = nullptr;
  pair_.close();
}

std::optional<MonitorEvent> SocketMonitor::next() {
  zmq::message_t head;
  zmq::message_t address;
  if (!pair_.recv(head, zmq::recv_flags::dontwait)) return std::nullopt;
  if (head.size() != sizeof(std::uint16_t) + sizeof(std::uint32_t) || !head.more() ||
      !pair_.recv(address, zmq::recv_flags::dontwait)) {
    return std::nullopt;
  }
  MonitorEvent event;
  std::memcpy(&event.event, head.data(), sizeof event.event);
  std::memcpy(&event.value, head.data<char>() + sizeof event.event, sizeof event.value);
  event.address = address.to_string();
  return event;
}

// ---- Internal ----

struct Context::Internal::Decision {
  std::string user;  // who it is; empty: refused
  Refusal reason = Refusal::kMalformed;
  std::string_view detail;
};

Context::Internal::Internal(std::optional<KeyRing> keys, telemetry::Logger log,
                            telemetry::Metrics& metrics)
    : keys_(std::move(keys)),
      log_(std::move(log)),
      metrics_(metrics),
      repeats_(kRefusalLogInterval),
      zmq_(io_threads(), kSocketsMax) {
  for (std::size_t i = 0; i < kRefusals; ++i) {
    refused_[i] =
        &metrics.counter("conclave_fabric_refused_total", "What links turned away, by reason",
                         {{"reason", std::string(to_string(static_cast<Refusal>(i)))}});
  }
  if (!keys_) return;
  // Bound here, before any server socket can exist: ZeroMQ lets everybody in where no handler is.
  zmq::socket_t socket(zmq_, zmq::socket_type::rep);
  socket.set(zmq::sockopt::linger, 0);
  socket.bind(kZapAddress);
  zap_ =
      std::thread([this, handed = std::move(socket)]() mutable { serve_zap(std::move(handed)); });
}

Context::Internal::~Internal() {
  // All other sockets are closed; this makes the handler's own fail, which ends its thread.
  zmq_.shutdown();
  if (zap_.joinable()) zap_.join();
}

void Context::Internal::refused(Refusal reason, std::string_view peer, std::string_view detail) {
  const std::string_view name = to_string(reason);
  refused_[static_cast<std::size_t>(reason)]->add();
  const std::string key = std::string(name) + ' ' + std::string(peer);
  if (const auto skipped = repeats_.admit(key, std::chrono::steady_clock::now())) {
    log_.warn("refused",
              {{"reason", name}, {"peer", peer}, {"detail", detail}, {"skipped", *skipped}});
  }
}

void Context::Internal::turned_away(std::string_view peer, std::string_view detail) {
  const std::string key = "turned_away " + std::string(peer);
  if (const auto skipped = repeats_.admit(key, std::chrono::steady_clock::now())) {
    log_.warn("turned_away", {{"peer", peer}, {"detail", detail}, {"skipped", *skipped}});
  }
}

std::optional<std::string> Context::Internal::endpoint(const std::string& address) {
  const auto now = std::chrono::steady_clock::now();
  auto numeric = host_names_.numeric(address, now);
  if (numeric) return std::move(*numeric);
  if (const auto skipped = repeats_.admit("no address of " + address, now)) {
    log_.warn("no_address",
              {{"peer", address}, {"error", numeric.error().message}, {"skipped", *skipped}});
  }
  return std::nullopt;
}

void Context::Internal::serve_zap(zmq::socket_t socket) {
  try {
    for (;;) {
      std::vector<std::string> request;
      zmq::message_t frame;
      do {
        if (!socket.recv(frame)) return;
        // Ours or libzmq's own; a stranger's bytes come as credentials, at most 255 each.
        request.push_back(frame.to_string());
      } while (frame.more());

      const auto part = [&request](std::size_t i) {
        return i < request.size() ? std::string_view(request[i]) : std::string_view();
      };
      const Decision decision = decide(request);
      const bool ok = !decision.user.empty();
      if (!ok) refused(decision.reason, part(3), decision.detail);
      // version, request id, status and its text, user id, metadata
      const std::array<std::string_view, 6> reply = {
          "1.0", part(1), ok ? "200" : "400", ok ? "OK" : "not admitted", decision.user, ""};
      for (std::size_t i = 0; i < reply.size(); ++i) {
        const auto flags = i + 1 < reply.size() ? zmq::send_flags::sndmore : zmq::send_flags::none;
        socket.send(zmq::buffer(reply[i]), flags);
      }
    }
  } catch (const zmq::error_t& error) {
    if (error.num() != ETERM) log_.error("authentication_stopped", {{"error", error.what()}});
  }
}

Context::Internal::Decision Context::Internal::decide(
    const std::vector<std::string>& request) const {
  // version, request id, domain, address, identity, mechanism, credentials..
  if (request.size() < 7 || request[0] != "1.0") {
    return {{}, Refusal::kMalformed, "not a request of version 1.0"};
  }
  const std::string& mechanism = request[5];
  const auto server = role_named(request[2]);
  if (!server) return {{}, Refusal::kMalformed, "unknown domain"};

  std::string key;
  if (mechanism == "CURVE" && request[6].size() == 32) {
    std::array<char, 41> text{};
    zmq_z85_encode(text.data(), reinterpret_cast<const std::uint8_t*>(request[6].data()), 32);
    key = text.data();
  } else if (mechanism == "PLAIN" && request.size() >= 8) {
    key = request[6];
  } else {
    return {{}, Refusal::kNoKey, "neither CURVE nor PLAIN"};
  }
  const auto role = keys_->role_of(key);
  if (!role) return {{}, Refusal::kUnknownKey, "this key is nobody's"};
  if (mechanism == "PLAIN" && !same_password(request[7], link_password(keys_->own(), key, key))) {
    return {{}, Refusal::kUnknownKey, "has not the key that it names"};
  }
  const auto admitted = clients_of(*server);
  if (std::find(admitted.begin(), admitted.end(), *role) == admitted.end()) {
    return {{}, Refusal::kWrongRole, to_string(*role)};
  }
  return {std::move(key), Refusal::kMalformed, {}};
}

void Context::Internal::set_common(zmq::socket_t& socket, const SocketLimits& limits) {
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::sndhwm, limits.send_messages);
  socket.set(zmq::sockopt::rcvhwm, limits.receive_messages);
  socket.set(zmq::sockopt::maxmsgsize, limits.frame_bytes);
  socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
  socket.set(zmq::sockopt::sndtimeo, 0);
  socket.set(zmq::sockopt::rcvtimeo, 0);
}

base::Status Context::Internal::configure_server(zmq::socket_t& socket, const std::string& address,
                                                 NodeRole own, Encryption encryption,
                                                 const SocketLimits& limits) {
  try {
    set_common(socket, limits);
    socket.set(zmq::sockopt::router_mandatory, true);
    if (is_inproc(address)) return {};
    if (!keys_) return fail(ErrorCode::kInvalidArgument, address + " needs keys");
    if (keys_->role() != own) {
      return fail(ErrorCode::kInvalidArgument,
                  "the keys are those of a " + std::string(to_string(keys_->role())));
    }
    socket.set(zmq::sockopt::zap_domain, to_string(own));
    if (encryption == Encryption::kCurve) {
      socket.set(zmq::sockopt::curve_server, true);
      socket.set(zmq::sockopt::curve_secretkey, keys_->own().secret_key);
    } else {
      socket.set(zmq::sockopt::plain_server, true);
    }
  } catch (const zmq::error_t& error) {
    return zmq_failure(error);
  }
  return {};
}

base::Status Context::Internal::configure_client(zmq::socket_t& socket, const std::string& address,
                                                 NodeRole server, Encryption encryption,
                                                 const SocketLimits& limits) {
  try {
    set_common(socket, limits);
    socket.set(zmq::sockopt::immediate, true);
    socket.set(zmq::sockopt::connect_timeout, kConnectMs);
    socket.set(zmq::sockopt::reconnect_ivl, limits.reconnect_ms);
    if (is_inproc(address)) return {};
    if (!keys_) return fail(ErrorCode::kInvalidArgument, address + " needs keys");
    const std::string server_key(keys_->server_key(server));
    if (server_key.empty()) {
      return fail(ErrorCode::kNotFound,
                  "no public key of the " + std::string(to_string(server)) + " is known");
    }
    if (encryption == Encryption::kCurve) {
      socket.set(zmq::sockopt::curve_serverkey, server_key);
      socket.set(zmq::sockopt::curve_publickey, keys_->own().public_key);
      socket.set(zmq::sockopt::curve_secretkey, keys_->own().secret_key);
    } else {
      const std::string& user = keys_->own().public_key;
      socket.set(zmq::sockopt::plain_username, user);
      socket.set(zmq::sockopt::plain_password, link_password(keys_->own(), server_key, user));
    }
  } catch (const zmq::error_t& error) {
    return zmq_failure(error);
  }
  return {};
}

SocketMonitor Context::Internal::monitor(zmq::socket_t& socket) {
  constexpr int kEvents = ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |
                          ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                          ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  return {zmq_, socket, kEvents, "inproc://monitor-" + std::to_string(next_id())};
}

void Context::Internal::count_failed_handshake(const MonitorEvent& event) {
  // HANDSHAKE_FAILED_AUTH was counted by decide(), and NO_DETAIL is a connection that ended early:
  // a probe of the port, or a peer that went.
  if (event.event != ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) return;
  if (event.value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) {
    refused(Refusal::kNoKey, event.address, "does not speak the mechanism of this address");
  } else if (event.value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC) {
    refused(Refusal::kUnknownKey, event.address, "was made for another server's key");
  } else {
    refused(Refusal::kMalformed, event.address, "broke the handshake");
  }
}

std::optional<NodeRole> Context::Internal::sender_role(zmq::message_t& message) const {
  const char* user = zmq_msg_gets(message.handle(), "User-Id");
  if (user == nullptr || !keys_) return std::nullopt;
  return keys_->role_of(user);
}

// ---- Context ----

base::Result<std::unique_ptr<Context>> Context::create(std::optional<KeyRing> keys,
                                                       telemetry::Logger log,
                                                       telemetry::Metrics& metrics) {
  try {
    auto internal = std::make_unique<Internal>(std::move(keys), std::move(log), metrics);
    return std::unique_ptr<Context>(new Context(std::move(internal)));
  } catch (const zmq::error_t& error) {
    return fail(ErrorCode::kUnavailable, std::string("ZeroMQ: ") + error.what());
  } catch (const std::system_error& error) {
    return fail(ErrorCode::kUnavailable, std::string("no thread: ") + error.what());
  }
}

Context::Context(std::unique_ptr<Internal> internal) : internal_(std::move(internal)) {}
Context::~Context() = default;
const KeyRing* Context::keys() const { return internal_->keys(); }
telemetry::Metrics& Context::metrics() { return internal_->metrics(); }
const telemetry::Logger& Context::log() const { return internal_->log(); }
Context::Internal& Context::internal() { return *internal_; }

void Context::refused(Refusal reason, std::string_view peer, std::string_view detail) {
  internal_->refused(reason, peer, detail);
}

}  // namespace conclave::fabric
