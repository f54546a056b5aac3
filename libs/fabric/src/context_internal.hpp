// The ZeroMQ side of a Context, for the sources of this library: the zmq::context_t, sockets with
// everything set that a link needs, and what monitors of sockets report.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "conclave/base/result.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/telemetry/repeat_filter.hpp"
#include "conclave/wire/limits.hpp"
#include "control/direct_nodes.hpp"
#include "direct_registry.hpp"
#include "host_names.hpp"

namespace conclave::fabric {

/// ZeroMQ aborts the process when a heartbeat is due on a connection that broke while a full queue
/// kept it from being read (libzmq issues 4364 and 3937). Without a limit the queue is
/// never full; peers of the data plane have proved their role and bound the calls that they have
/// open.
inline constexpr int kUnboundedForHeartbeats = 0;

/// What callers of configure_* choose; the rest is the same for all sockets.
struct SocketLimits {
  /// Messages that one peer's pipe holds. 0: no limit, for senders that count bytes themselves.
  int send_messages = 0;
  /// kUnboundedForHeartbeats for sockets with ZeroMQ's own heartbeats.
  int receive_messages = 256;
  /// A larger frame ends the connection inside ZeroMQ, uncounted. The slack lets a frame that is a
  /// little too large through, to be counted.
  std::int64_t frame_bytes = static_cast<std::int64_t>(wire::kMessageBytesMax) + (1 << 20);
  int reconnect_ms = 100;
};

/// One thing that happened to a connection of a socket: ZMQ_EVENT_*.
struct MonitorEvent {
  std::uint16_t event = 0;
  std::uint32_t value = 0;  // its meaning depends on the event: an errno, a ZMQ_PROTOCOL_ERROR_*
  std::string address;
};

/// Hears what happens to one socket's connections. Used by the socket's thread; must be destroyed
/// before the socket. inproc:// connections are not reported.
class SocketMonitor {
 public:
  SocketMonitor() = default;
  SocketMonitor(zmq::context_t& context, zmq::socket_t& socket, int events,
                const std::string& address);
  ~SocketMonitor() { close(); }
  SocketMonitor(SocketMonitor&& other) noexcept { *this = std::move(other); }
  SocketMonitor& operator=(SocketMonitor&& other) noexcept;

  /// For zmq_poll; null if there is none.
  [[nodiscard]] void* handle() { return pair_.handle(); }
  /// The oldest event that was not taken yet. Does not block.
  std::optional<MonitorEvent> next();
  void close();

 private:
  void* watched_ = nullptr;
  zmq::socket_t pair_;
};

class Context::Internal {
 public:
  Internal(std::optional<KeyRing> keys, telemetry::Logger log, telemetry::Metrics& metrics);
  ~Internal();

  zmq::context_t& zmq() { return zmq_; }
  [[nodiscard]] const KeyRing* keys() const { return keys_ ? &*keys_ : nullptr; }
  [[nodiscard]] const telemetry::Logger& log() const { return log_; }
  telemetry::Metrics& metrics() { return metrics_; }
  void refused(Refusal reason, std::string_view peer, std::string_view detail);
  /// Logs, as rarely, that it is the other side that turned us away.
  void turned_away(std::string_view peer, std::string_view detail);

  /// Sets up a socket that will bind, before it does. With kCurve peers are authenticated and
  /// encrypted, with kNone authenticated only (link_password.hpp). Addresses of inproc:// have
  /// neither: their peers are in this process. kInvalidArgument: the address needs keys and there
  /// are none, or they are another role's.
  base::Status configure_server(zmq::socket_t& socket, const std::string& address,
                                wire::NodeRole own, Encryption encryption,
                                const SocketLimits& limits);
  /// Sets up a socket that will connect to a server of that role, before it does.
  /// kInvalidArgument: the address needs keys and there are none; kNotFound: the server's key.
  base::Status configure_client(zmq::socket_t& socket, const std::string& address,
                                wire::NodeRole server, Encryption encryption,
                                const SocketLimits& limits);

  /// A monitor of the handshakes and ends of a socket's connections, and of what listens.
  SocketMonitor monitor(zmq::socket_t& socket);
  /// Counts handshakes that a server's monitor reports as failed.
  void count_failed_handshake(const MonitorEvent& event);

  /// Whose key the sender of this message proved to have; nothing for inproc:// and for a sender
  /// whom the handler below did not see.
  [[nodiscard]] std::optional<wire::NodeRole> sender_role(zmq::message_t& message) const;

  /// What ZeroMQ can connect to without a name server; see HostNames::numeric. A name that has no
  /// address is logged, rarely, and not known yet.
  std::optional<std::string> endpoint(const std::string& address);

  /// The servers of this process that its clients call without a socket.
  DirectRegistry& direct() { return direct_; }

  /// The nodes of this process that listen without a socket.
  DirectNodes& direct_nodes() { return direct_nodes_; }

  /// A number that was not given out before: for ids of links.
  std::uint64_t next_id() { return next_id_.fetch_add(1, std::memory_order_relaxed); }

 private:
  struct Decision;

  void serve_zap(zmq::socket_t socket);
  Decision decide(const std::vector<std::string>& request) const;
  void set_common(zmq::socket_t& socket, const SocketLimits& limits);

  const std::optional<KeyRing> keys_;
  const telemetry::Logger log_;
  telemetry::Metrics& metrics_;
  std::array<telemetry::Counter*, kRefusals> refused_{};
  telemetry::RepeatFilter repeats_;
  std::atomic<std::uint64_t> next_id_{1};
  DirectRegistry direct_;
  DirectNodes direct_nodes_;
  HostNames host_names_;
  zmq::context_t zmq_;
  std::thread zap_;
};

/// "inproc://..": inside this process.
bool is_inproc(std::string_view address);
/// "direct://..": inside this process, without sockets.
bool is_direct(std::string_view address);
/// A scheme of sockets, and something after it.
bool is_address(std::string_view address);

}  // namespace conclave::fabric
