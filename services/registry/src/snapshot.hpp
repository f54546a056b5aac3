// The last answers to what was asked, for the time in which the database is away.
#pragma once

#include <cstddef>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace conclave::registry {

/// Bounded by entries and by bytes as the caller counts them; what was asked longest ago goes
/// first. One thread.
template <class Answer>
class Snapshot {
 public:
  Snapshot(std::size_t entries_max, std::size_t bytes_max)
      : entries_max_(entries_max), bytes_max_(bytes_max) {}

  void keep(const std::string& question, Answer answer, std::size_t bytes) {
    forget(question);
    if (bytes > bytes_max_) return;
    order_.push_front({question, std::move(answer), bytes});
    places_[question] = order_.begin();
    bytes_ += bytes;
    while (order_.size() > entries_max_ || bytes_ > bytes_max_) forget(order_.back().question);
  }

  void forget(const std::string& question) {
    const auto place = places_.find(question);
    if (place == places_.end()) return;
    const auto entry = place->second;  // `question` may be the entry's own
    places_.erase(place);
    bytes_ -= entry->bytes;
    order_.erase(entry);
  }

  [[nodiscard]] std::optional<Answer> find(const std::string& question) const {
    const auto place = places_.find(question);
    if (place == places_.end()) return std::nullopt;
    return place->second->answer;
  }

 private:
  struct Entry {
    std::string question;
    Answer answer;
    std::size_t bytes = 0;
  };

  std::size_t entries_max_;
  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::list<Entry> order_;
  std::unordered_map<std::string, typename std::list<Entry>::iterator> places_;
};

}  // namespace conclave::registry
