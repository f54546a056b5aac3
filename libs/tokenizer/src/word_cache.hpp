// Remembers the tokens of words within one call of encode: most words of a text are repeats. Fixed
// size, direct mapped, never shared: a cache across calls would need a lock and a bound of its own.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "conclave/tokenizer/token.hpp"

namespace conclave::tokenizer {

class WordCache {
 public:
  static constexpr std::size_t kTokensMax = 10;
  static constexpr std::size_t kWordBytesMax = 32;

  /// For a text of so many bytes: one entry per 16, between 16 and 4096 (256 KiB, about what
  /// the second-level cache of a core holds).
  explicit WordCache(std::size_t text_bytes)
      : entries_(std::bit_ceil(
            std::min<std::size_t>(std::max<std::size_t>(text_bytes / 16, 16), 4096))) {}

  /// True: the tokens of `word` were appended to `out`. False: encode it and call `store`.
  bool append(std::string_view word, std::vector<TokenId>& out) {
    at_ = std::hash<std::string_view>{}(word) & (entries_.size() - 1);
    const Entry& entry = entries_[at_];
    if (entry.word != word) return false;
    out.insert(out.end(), entry.tokens.begin(), entry.tokens.begin() + entry.count);
    return true;
  }

  /// For the word of the `append` just before. `word` stays where it is for the cache's life.
  void store(std::string_view word, std::span<const TokenId> tokens) {
    if (word.size() > kWordBytesMax || tokens.size() > kTokensMax) return;
    Entry& entry = entries_[at_];
    entry.word = word;
    entry.count = static_cast<std::uint32_t>(tokens.size());
    std::copy(tokens.begin(), tokens.end(), entry.tokens.begin());
  }

 private:
  struct Entry {
    std::string_view word;  // empty: free; no word is empty
    std::uint32_t count = 0;
    std::array<TokenId, kTokensMax> tokens{};
  };

  std::vector<Entry> entries_;
  std::size_t at_ = 0;
};

}  // namespace conclave::tokenizer
