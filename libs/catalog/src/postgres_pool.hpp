// At most so many connections, lent one at a time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/catalog/open.hpp"
#include "postgres_connection.hpp"

namespace conclave::catalog::postgres {

/// Any thread. Must outlive what it lends.
class Pool {
 public:
  /// A connection for as long as it is held.
  class Lent {
   public:
    Lent(Pool& pool, std::unique_ptr<Connection> connection)
        : pool_(&pool), connection_(std::move(connection)) {}
    ~Lent() {
      if (pool_ != nullptr) pool_->take_back(std::move(connection_));
    }
    Lent(Lent&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), connection_(std::move(other.connection_)) {}
    Lent& operator=(Lent&&) = delete;

    Connection& operator*() { return *connection_; }
    Connection* operator->() { return connection_.get(); }
    /// It is closed, and so are those that wait idle: they were lost with it.
    void lost() {
      connection_.reset();
      pool_->drop_idle();
    }

   private:
    Pool* pool_;
    std::unique_ptr<Connection> connection_;
  };

  Pool(std::string connection_string, const CatalogOptions& options)
      : connection_string_(std::move(connection_string)), options_(options) {}

  /// kOverloaded: none came free; kUnavailable: no server, said at once for kDownFor after it was
  /// found so, that callers do not queue for a server that is away.
  base::Result<Lent> lend();
  /// As connection strings are; for connections that are not lent.
  [[nodiscard]] const std::string& connection_string() const { return connection_string_; }
  [[nodiscard]] const CatalogOptions& options() const { return options_; }
  /// Waits without a connection, between two tries.
  void pause(std::chrono::milliseconds time);

  static constexpr auto kDownFor = std::chrono::milliseconds(200);

 private:
  using Clock = std::chrono::steady_clock;

  void take_back(std::unique_ptr<Connection> connection);
  void drop_idle();

  const std::string connection_string_;
  const CatalogOptions options_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable free_;
  std::vector<std::unique_ptr<Connection>> idle_;
  std::size_t lent_ = 0;
  Clock::time_point down_until_{};
  std::optional<base::Error> down_;
};

}  // namespace conclave::catalog::postgres
