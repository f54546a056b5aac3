// Keeps an event that repeats (a peer that is down, a bad frame) from flooding a log: once an
// interval for each key, with the count of what was left out.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace conclave::telemetry {

/// Any thread.
///
///   if (const auto skipped = repeats.admit(peer, now)) {
///     log.warn("peer_unreachable", {{"peer", peer}, {"skipped", *skipped}});
///   }
class RepeatFilter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// Remembers at most `keys_max` keys; further ones share one entry until others expire, so an
  /// attacker who invents keys gets neither memory nor log lines.
  explicit RepeatFilter(std::chrono::steady_clock::duration interval, std::size_t keys_max = 1024);

  /// How many were left out since the last one that passed, or nothing if this one is left out too.
  std::optional<std::uint64_t> admit(std::string_view key, Time now);

 private:
  struct Entry {
    Time passed;
    std::uint64_t skipped = 0;
  };

  void forget_expired(Time now);

  const std::chrono::steady_clock::duration interval_;
  const std::size_t keys_max_;
  std::mutex mutex_;  // guards what follows
  std::unordered_map<std::string, Entry> entries_;
  std::optional<Entry> overflow_;
  Time next_walk_{};  // forget_expired() does nothing before
};

}  // namespace conclave::telemetry
