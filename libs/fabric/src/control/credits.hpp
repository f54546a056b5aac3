// What waits for one peer, in messages and bytes, wherever it waits: in the lane's queue, in
// ZeroMQ's pipe, in its encoder. A message gives its share back when ZeroMQ has passed its bytes
// on, so the bound is exact although ZeroMQ itself only counts messages.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace conclave::fabric {

/// Any thread.
class Credits {
 public:
  Credits(std::uint64_t messages_max, std::uint64_t bytes_max)
      : messages_max_(messages_max), bytes_max_(bytes_max) {}

  /// Takes a place for one message. False: one of the bounds is reached.
  bool take(std::size_t bytes) {
    const auto messages = messages_.fetch_add(1, std::memory_order_relaxed);
    const auto before = bytes_.fetch_add(bytes, std::memory_order_relaxed);
    // An empty queue takes any message: else one beyond the bound could never be sent.
    if (messages == 0 || (messages < messages_max_ && before + bytes <= bytes_max_)) return true;
    give(bytes);
    return false;
  }
  void give(std::size_t bytes) {
    bytes_.fetch_sub(bytes, std::memory_order_relaxed);
    messages_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  const std::uint64_t messages_max_;
  const std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> messages_{0};
  std::atomic<std::uint64_t> bytes_{0};
};

}  // namespace conclave::fabric
