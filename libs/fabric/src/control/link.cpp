#include "link.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <cerrno>

namespace conclave::fabric {

using base::ErrorCode;
using base::fail;

namespace {

/// Heartbeats, welcomes and the like that may wait beside what the credits count.
constexpr int kLinkFramesMax = 1024;

/// Far more than ZeroMQ's thread needs to close a socket.
constexpr int kCloseMs = 1000;
// What peers of the same network need to read their last messages.
constexpr std::chrono::milliseconds kGoodbyeTime{100};

SocketLimits limits_of(const NodeSettings& settings) {
  SocketLimits limits;
  limits.send_messages = static_cast<int>(settings.queue_messages) + kLinkFramesMax;
  limits.reconnect_ms = static_cast<int>(settings.reconnect_ms);
  return limits;
}

tl::unexpected<base::Error> refuse(const std::string& address, const zmq::error_t& error) {
  const int number = error.num();
  const bool malformed =
      number == EINVAL || number == EPROTONOSUPPORT || number == ENODEV || number == ENAMETOOLONG;
  return fail(malformed ? ErrorCode::kInvalidArgument : ErrorCode::kUnavailable,
              address + ": " + error.what());
}

}  // namespace

base::Status open_socket(Context::Internal& context, const NodeSettings& settings, Link& link) {
  if (is_direct(link.address)) return {};
  if (!is_address(link.address)) {
    return fail(ErrorCode::kInvalidArgument, "not an address: " + link.address);
  }
  const auto endpoint = context.endpoint(link.address);
  if (!endpoint) return {};
  try {
    zmq::socket_t socket(context.zmq(), zmq::socket_type::dealer);
    CONCLAVE_TRY_VOID(context.configure_client(socket, link.address, link.server_role,
                                               Encryption::kCurve, limits_of(settings)));
    SocketMonitor monitor;
    if (!is_inproc(link.address)) monitor = context.monitor(socket);
    socket.connect(*endpoint);
    link.socket = std::move(socket);
    link.monitor = std::move(monitor);
  } catch (const zmq::error_t& error) {
    return refuse(link.address, error);
  }
  return {};
}

void close_socket(Link& link, std::chrono::milliseconds linger) {
  if (!link.socket) return;
  link.monitor.close();
  link.socket.set(zmq::sockopt::linger, static_cast<int>(linger.count()));
  link.socket.close();
  link.connected = false;
}

base::Result<std::unique_ptr<Server>> open_server(Context::Internal& context,
                                                  const NodeSettings& settings, wire::NodeRole own,
                                                  const std::string& address) {
  if (is_direct(address)) {
    auto server = std::make_unique<Server>();
    server->address = address;
    server->direct = true;
    return server;
  }
  if (!is_address(address)) {
    return fail(ErrorCode::kInvalidArgument, "not an address: " + address);
  }
  try {
    auto server = std::make_unique<Server>();
    server->inproc = is_inproc(address);
    server->socket = zmq::socket_t(context.zmq(), zmq::socket_type::router);
    CONCLAVE_TRY_VOID(context.configure_server(server->socket, address, own, Encryption::kCurve,
                                               limits_of(settings)));
    if (!server->inproc) server->monitor = context.monitor(server->socket);
    server->socket.bind(address);
    server->address = server->socket.get(zmq::sockopt::last_endpoint);
    return server;
  } catch (const zmq::error_t& error) {
    return refuse(address, error);
  }
}

void close_server(Server& server, std::size_t peers, std::chrono::milliseconds linger) {
  if (server.direct) return;
  // Who has read the goodbye closes his end. Closed from here first, a connection may lose what it
  // was sent last, linger or not.
  const auto end = std::chrono::steady_clock::now() + std::min(linger, kGoodbyeTime);
  while (!server.inproc && peers > 0) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    zmq::pollitem_t item{server.monitor.handle(), 0, ZMQ_POLLIN, 0};
    if (left.count() <= 0 || zmq_poll(&item, 1, left.count()) <= 0) break;
    const auto event = server.monitor.next();
    if (event && event->event == ZMQ_EVENT_DISCONNECTED) --peers;
  }
  // Connections end with what listened for them: it must know how long they may still send.
  server.socket.set(zmq::sockopt::linger, static_cast<int>(linger.count()));
  // ZeroMQ closes what listens on a thread of its own, and reports it. A name within the process is
  // free once this returns, and with the socket only some time after it.
  const bool unbound = zmq_unbind(server.socket.handle(), server.address.c_str()) == 0;
  if (unbound && !server.inproc) {
    zmq::pollitem_t item{server.monitor.handle(), 0, ZMQ_POLLIN, 0};
    for (bool closed = false; !closed && zmq_poll(&item, 1, kCloseMs) > 0;) {
      const auto event = server.monitor.next();
      closed = !event || event->event == ZMQ_EVENT_CLOSED;
    }
  }
  server.monitor.close();
  server.socket.close();
}

}  // namespace conclave::fabric
