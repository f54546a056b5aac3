// Finds special tokens in a text and cuts it there. The longest token text wins over the whole
// text, not only at one place: that is how llama.cpp cuts, and overlaps are rare.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "conclave/tokenizer/token.hpp"
#include "vocabulary.hpp"

namespace conclave::tokenizer {

/// A part of a text: one special token, or plain text between them (`id` is kNoToken).
struct Fragment {
  TokenId id = kNoToken;
  std::string_view text;
};

/// Immutable; refers to texts of the vocabulary that it was made from.
class SpecialSplitter {
 public:
  SpecialSplitter(const Vocabulary& vocabulary, std::vector<TokenId> tokens);

  /// The fragments of `text` in order; none is empty. O(n) for a text without special tokens, O(n)
  /// more for each different one that occurs.
  [[nodiscard]] std::vector<Fragment> split(std::string_view text) const;

 private:
  [[nodiscard]] std::vector<char> tokens_present(std::string_view text) const;
  void mark_tokens_at(std::string_view text, std::vector<char>& present) const;

  const Vocabulary* vocabulary_;
  std::vector<TokenId> by_length_;      // longest text first, then by id
  std::vector<std::uint32_t> by_text_;  // indices of by_length_, sorted by text
  std::array<bool, 256> first_byte_{};  // some token begins so
};

}  // namespace conclave::tokenizer
