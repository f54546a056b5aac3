#include "server_core.hpp"

#include <utility>

namespace conclave::http {

ServerCore::ServerCore(const ServerOptions& server_options, Handler request_handler)
    : options(server_options), handler(std::move(request_handler)) {}

ServerStats ServerCore::stats() const {
  const auto read = [](const std::atomic<std::uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  ServerStats stats;
  stats.connections_open = read(counters.connections_open);
  stats.exchanges_running = read(counters.exchanges_running);
  stats.connections_accepted = read(counters.connections_accepted);
  stats.connections_refused = read(counters.connections_refused);
  stats.requests = read(counters.requests);
  stats.requests_rejected = read(counters.requests_rejected);
  stats.timeouts = read(counters.timeouts);
  stats.clients_vanished = read(counters.clients_vanished);
  stats.streams_overflowed = read(counters.streams_overflowed);
  stats.bytes_in = read(counters.bytes_in);
  stats.bytes_out = read(counters.bytes_out);
  return stats;
}

Response ServerCore::error(unsigned status, std::string message) const {
  Response response;
  if (options.error_response) {
    response = options.error_response(status, std::move(message));
  } else {
    response.content_type = "text/plain; charset=utf-8";
    response.body = std::move(message) + "\n";
  }
  response.status = status;
  return response;
}

std::optional<std::int64_t> ServerCore::unix_time() const {
  if (!options.unix_time) return std::nullopt;
  return options.unix_time();
}

void ServerCore::busy_begin() {
  const std::lock_guard lock(mutex_);
  ++busy_;
}

void ServerCore::busy_end() {
  const std::lock_guard lock(mutex_);
  if (--busy_ == 0) idle_.notify_all();
}

bool ServerCore::wait_idle(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return idle_.wait_until(lock, deadline, [this] { return busy_ == 0; });
}

}  // namespace conclave::http
