// What all connections of one server share: its options, its handler and its counts.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "conclave/http/server.hpp"

namespace conclave::http {

/// Lives as long as the last connection or exchange. Everything mutable in it is thread-safe.
class ServerCore {
 public:
  ServerCore(const ServerOptions& options, Handler handler);

  const ServerOptions options;
  const Handler handler;

  std::atomic<bool> draining{false};

  // Relaxed: each is a count of its own and orders nothing.
  struct Counters {
    std::atomic<std::uint64_t> connections_open{0};
    std::atomic<std::uint64_t> refusals_open{0};  // refused connections that get their 503 now
    std::atomic<std::uint64_t> exchanges_running{0};
    std::atomic<std::uint64_t> connections_accepted{0};
    std::atomic<std::uint64_t> connections_refused{0};
    std::atomic<std::uint64_t> requests{0};
    std::atomic<std::uint64_t> requests_rejected{0};
    std::atomic<std::uint64_t> timeouts{0};
    std::atomic<std::uint64_t> clients_vanished{0};
    std::atomic<std::uint64_t> streams_overflowed{0};
    std::atomic<std::uint64_t> bytes_in{0};
    std::atomic<std::uint64_t> bytes_out{0};
  } counters;

  [[nodiscard]] ServerStats stats() const;

  /// The server's own answer, in the owner's shape.
  [[nodiscard]] Response error(unsigned status, std::string message) const;

  [[nodiscard]] std::optional<std::int64_t> unix_time() const;

  /// A connection begins or stops to work on a request.
  void busy_begin();
  void busy_end();
  bool wait_idle(std::chrono::steady_clock::time_point deadline);

 private:
  std::mutex mutex_;  // guards busy_
  std::condition_variable idle_;
  std::uint64_t busy_ = 0;
};

/// Adds to a counter.
inline void count(std::atomic<std::uint64_t>& counter, std::uint64_t n = 1) {
  counter.fetch_add(n, std::memory_order_relaxed);
}
inline void uncount(std::atomic<std::uint64_t>& counter) {
  counter.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace conclave::http
