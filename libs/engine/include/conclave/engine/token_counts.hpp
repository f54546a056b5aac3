// Which tokens a sequence holds and how often its output has each: what penalties look at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace conclave::engine {

/// Grows with the distinct tokens of a sequence, at most the vocabulary. O(1) a token.
class TokenCounts {
 public:
  struct Entry {
    std::int32_t token = 0;
    std::uint32_t output = 0;  // times in the output; 0: only in the prompt
  };

  void add_prompt(std::int32_t token) { entry(token); }
  void add_output(std::int32_t token) { ++entry(token).output; }

  /// Each token once, in the order of its first appearance.
  [[nodiscard]] std::span<const Entry> entries() const { return entries_; }

 private:
  Entry& entry(std::int32_t token) {
    const auto [found, added] = index_.try_emplace(token, entries_.size());
    if (added) entries_.push_back({token, 0});
    return entries_[found->second];
  }

  std::vector<Entry> entries_;
  std::unordered_map<std::int32_t, std::size_t> index_;
};

}  // namespace conclave::engine
