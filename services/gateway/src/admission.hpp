// How many streams may be open in this gateway. It is asked before a request is handed to the core,
// because the way there, an actor's mailbox, has no bound of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace conclave::gateway {

/// Any thread. Lives as long as its last ticket.
class Admission : public std::enable_shared_from_this<Admission> {
 public:
  static std::shared_ptr<Admission> create(std::size_t streams_max) {
    return std::shared_ptr<Admission>(new Admission(streams_max));
  }

  /// The right to have some streams open, given back when it dies.
  class Ticket {
   public:
    Ticket(Ticket&&) noexcept = default;
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (admission_) admission_->leave(streams_);
    }

   private:
    friend class Admission;
    Ticket(std::shared_ptr<Admission> admission, std::size_t streams)
        : admission_(std::move(admission)), streams_(streams) {}

    std::shared_ptr<Admission> admission_;  // null: moved from
    std::size_t streams_;
  };

  /// None if they would be too many together.
  std::optional<Ticket> enter(std::size_t streams) {
    const std::lock_guard lock(mutex_);
    if (streams > streams_max_ - open_) return std::nullopt;
    open_ += streams;
    return Ticket(shared_from_this(), streams);
  }

  [[nodiscard]] std::size_t streams_max() const { return streams_max_; }
  [[nodiscard]] bool full() const { return open() >= streams_max_; }
  [[nodiscard]] std::size_t open() const {
    const std::lock_guard lock(mutex_);
    return open_;
  }

  /// True once no stream is open; false if `deadline` comes first.
  bool wait_empty(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    return empty_.wait_until(lock, deadline, [this] { return open_ == 0; });
  }

 private:
  explicit Admission(std::size_t streams_max) : streams_max_(streams_max) {}

  void leave(std::size_t streams) {
    const std::lock_guard lock(mutex_);
    open_ -= streams;
    if (open_ == 0) empty_.notify_all();
  }

  const std::size_t streams_max_;
  mutable std::mutex mutex_;  // guards open_
  std::condition_variable empty_;
  std::size_t open_ = 0;
};

}  // namespace conclave::gateway
