// Things that wait for an answer, all for the same time: so the order in which they came is the
// order in which they expire, and a list does what a timer wheel would.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>

namespace conclave::fabric {

/// One thread.
template <class Entry>
class PendingTable {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// Deadlines must not fall from one call to the next. False: the id waits already.
  bool add(std::uint64_t id, Time deadline, Entry entry) {
    const auto [found, is_new] = by_id_.try_emplace(id);
    if (!is_new) return false;
    found->second = items_.insert(items_.end(), Item{id, deadline, std::move(entry)});
    return true;
  }
  /// Takes the one with this id out, if it is there.
  std::optional<Entry> take(std::uint64_t id) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return std::nullopt;
    std::optional<Entry> entry(std::move(found->second->entry));
    items_.erase(found->second);
    by_id_.erase(found);
    return entry;
  }
  /// Takes one whose deadline has come, if there is one.
  std::optional<Entry> take_expired(Time now) {
    if (items_.empty() || items_.front().deadline > now) return std::nullopt;
    return take(items_.front().id);
  }
  /// Takes any one.
  std::optional<Entry> take_any() {
    if (items_.empty()) return std::nullopt;
    return take(items_.front().id);
  }
  /// Time::max() if nothing waits.
  [[nodiscard]] Time next_deadline() const {
    return items_.empty() ? Time::max() : items_.front().deadline;
  }
  [[nodiscard]] std::size_t size() const { return by_id_.size(); }
  [[nodiscard]] bool empty() const { return by_id_.empty(); }

 private:
  struct Item {
    std::uint64_t id;
    Time deadline;
    Entry entry;
  };

  std::list<Item> items_;
  std::unordered_map<std::uint64_t, typename std::list<Item>::iterator> by_id_;
};

}  // namespace conclave::fabric
