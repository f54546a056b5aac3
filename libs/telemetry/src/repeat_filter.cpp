#include "conclave/telemetry/repeat_filter.hpp"

#include <utility>

namespace conclave::telemetry {

namespace {

// Keys come from peers and paths; a longer one differs within its beginning or counts as the same.
constexpr std::size_t kKeyBytesMax = 256;

}  // namespace

RepeatFilter::RepeatFilter(std::chrono::steady_clock::duration interval, std::size_t keys_max)
    : interval_(interval), keys_max_(keys_max) {}

std::optional<std::uint64_t> RepeatFilter::admit(std::string_view whole_key, Time now) {
  const std::string key(whole_key.substr(0, kKeyBytesMax));
  const std::lock_guard lock(mutex_);
  Entry* entry = nullptr;
  if (const auto found = entries_.find(key); found != entries_.end()) {
    entry = &found->second;
  } else {
    if (entries_.size() >= keys_max_) forget_expired(now);
    if (entries_.size() < keys_max_) {
      entries_.emplace(key, Entry{now, 0});
      return 0;
    }
    if (!overflow_) {
      overflow_ = Entry{now, 0};
      return 0;
    }
    entry = &*overflow_;
  }
  if (now - entry->passed < interval_) {
    ++entry->skipped;
    return std::nullopt;
  }
  entry->passed = now;
  return std::exchange(entry->skipped, 0);
}

void RepeatFilter::forget_expired(Time now) {
  // At most once an interval: a flood of new keys must not pay for a walk each.
  if (now < next_walk_) return;
  next_walk_ = now + interval_;
  std::erase_if(entries_,
                [&](const auto& entry) { return now - entry.second.passed >= interval_; });
}

}  // namespace conclave::telemetry
