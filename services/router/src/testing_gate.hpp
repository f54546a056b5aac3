// For tests: a gate in front of a worker, at which the router's engine waits.
#pragma once

#include <condition_variable>
#include <mutex>

#include "conclave/testkit/events.hpp"

namespace conclave::router {

/// Open at first. Any thread.
class Gate {
 public:
  /// Waits while it is closed.
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  /// Until somebody waits at the closed gate; false: nobody came.
  bool wait_for_one() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, testkit::kPatience, [this] { return waiting_ > 0; });
  }

 private:
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool open_ = true;
  int waiting_ = 0;
};

}  // namespace conclave::router
