// Things that happened on other threads, for a test that waits for one of them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

namespace conclave::testkit {

/// Longer than anything that works takes, on a machine as loaded as may be.
inline constexpr std::chrono::seconds kPatience{30};

/// In order of add(). Any thread.
template <class T>
class Events {
 public:
  void add(T event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    added_.notify_all();
  }

  /// The first that fits, now or later; it and those before it are taken out. Nothing after
  /// kPatience.
  std::optional<T> wait(const std::function<bool(const T&)>& fits) {
    std::unique_lock lock(mutex_);
    std::optional<T> found;
    added_.wait_for(lock, kPatience, [&] {
      while (!found && !events_.empty()) {
        if (fits(events_.front())) found = std::move(events_.front());
        events_.pop_front();
      }
      return found.has_value();
    });
    return found;
  }
  std::optional<T> wait() {
    return wait([](const T&) { return true; });
  }

  /// What is there now.
  std::deque<T> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable added_;
  std::deque<T> events_;
};

}  // namespace conclave::testkit
