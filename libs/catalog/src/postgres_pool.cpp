#include "postgres_pool.hpp"

namespace conclave::catalog::postgres {

using base::ErrorCode;
using base::fail;
using base::Result;

Result<Pool::Lent> Pool::lend() {
  std::unique_lock lock(mutex_);
  const bool is_free = free_.wait_for(lock, std::chrono::milliseconds(options_.connection_wait_ms),
                                      [this] { return lent_ < options_.connections_max; });
  if (!is_free) {
    return fail(ErrorCode::kOverloaded, "all " + std::to_string(options_.connections_max) +
                                            " connections to the database are busy");
  }
  if (down_ && Clock::now() < down_until_) return fail(*down_);
  ++lent_;
  if (!idle_.empty()) {
    std::unique_ptr<Connection> connection = std::move(idle_.back());
    idle_.pop_back();
    return Lent(*this, std::move(connection));
  }
  lock.unlock();
  std::unique_ptr<Connection> connection;
  std::optional<base::Error> error;
  try {
    connection = std::make_unique<Connection>(connection_string_, options_);
  } catch (const std::exception& thrown) {
    error = failure_of(thrown, false).error;
  }
  lock.lock();
  down_ = error;
  if (!error) return Lent(*this, std::move(connection));
  down_until_ = Clock::now() + kDownFor;
  --lent_;
  free_.notify_one();
  return fail(*error);
}

void Pool::take_back(std::unique_ptr<Connection> connection) {
  const std::scoped_lock lock(mutex_);
  --lent_;
  if (connection != nullptr) idle_.push_back(std::move(connection));
  free_.notify_one();
}

void Pool::drop_idle() {
  std::vector<std::unique_ptr<Connection>> dropped;  // closed without the lock
  const std::scoped_lock lock(mutex_);
  dropped.swap(idle_);
}

void Pool::pause(std::chrono::milliseconds time) {
  std::mutex mutex;
  std::condition_variable nobody;
  std::unique_lock lock(mutex);
  nobody.wait_for(lock, time, [] { return false; });
}

}  // namespace conclave::catalog::postgres
