// One thread of the server with the connections that it serves. Includes Asio: for .cpp files that
// own sockets only.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <thread>
#include <unordered_set>
#include <utility>

#include "server_core.hpp"

namespace conclave::http {

class Connection;

/// Connections own it jointly with the server, since an exchange, and with it a socket, may outlive
/// the server. Members other than `io` belong to the thread.
struct EventLoop : std::enable_shared_from_this<EventLoop> {
  explicit EventLoop(std::shared_ptr<ServerCore> server_core)
      : core(std::move(server_core)), io(1), work(io.get_executor()) {}

  const std::shared_ptr<ServerCore> core;
  boost::asio::io_context io;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work;
  bool stopping = false;
  std::unordered_set<Connection*> connections;
  std::thread thread;  // joined by the server
};

}  // namespace conclave::http
