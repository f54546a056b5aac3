// How many sequences a router has taken on: what bounds everything that is kept for them, and what
// a drain waits for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>

#include "conclave/base/result.hpp"

namespace conclave::router {

/// Any thread.
class Admission {
 public:
  /// `sequences_max`: at once, running and waiting together.
  explicit Admission(std::size_t sequences_max) : sequences_max_(sequences_max) {}

  /// Takes on so many sequences. kOverloaded: too many are here; kUnavailable: closed.
  base::Status take(std::size_t sequences);
  /// So many have ended, and whoever asked for them has been told.
  void give_back(std::size_t sequences);

  /// take() refuses from now on.
  void close();
  [[nodiscard]] bool closed() const;

  /// False: `deadline` came first.
  bool wait_until_empty(std::chrono::steady_clock::time_point deadline) const;

 private:
  const std::size_t sequences_max_;

  mutable std::mutex mutex_;  // guards what follows
  mutable std::condition_variable emptied_;
  std::size_t sequences_ = 0;
  bool closed_ = false;
};

}  // namespace conclave::router
