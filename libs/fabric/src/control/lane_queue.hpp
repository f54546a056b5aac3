// The way into a lane for other threads: a queue and one eventfd. The lane says when it is about to
// sleep, and only the first to put something in after that wakes it.
#pragma once

#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "wakeup.hpp"

namespace conclave::fabric {

/// Any thread, but the lane alone calls what is said to be the lane's.
template <class Item>
class LaneQueue {
 public:
  /// False: the lane has ended, `item` is untouched.
  bool push(Item&& item) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return false;
      items_.push_back(std::move(item));
      wake = std::exchange(armed_, false);
    }
    if (wake) wakeup_.signal();
    return true;
  }

  /// The lane's: everything, oldest first; `into` must be empty and lends its memory.
  void take(std::vector<Item>& into) {
    const std::lock_guard lock(mutex_);
    items_.swap(into);
  }
  /// The lane's: from here on a push makes descriptor() readable. False: there are items already.
  bool arm() {
    const std::lock_guard lock(mutex_);
    armed_ = items_.empty();
    return armed_;
  }
  /// The lane's: it is awake.
  void disarm() {
    {
      const std::lock_guard lock(mutex_);
      armed_ = false;
    }
    wakeup_.clear();
  }
  /// The lane's: nothing comes in from here on.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  /// For poll; negative: the system has no descriptor left, and this queue is of no use.
  [[nodiscard]] int descriptor() const { return wakeup_.descriptor(); }

 private:
  Wakeup wakeup_;
  std::mutex mutex_;  // guards what follows
  std::vector<Item> items_;
  bool armed_ = false;
  bool closed_ = false;
};

}  // namespace conclave::fabric
