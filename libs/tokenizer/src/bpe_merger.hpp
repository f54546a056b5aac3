// The merging of byte-level BPE: a word is a row of tokens, at first one per byte, and the pair
// with the lowest rank is joined until no pair has one; of equal ranks the leftmost goes first.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/tokenizer/token.hpp"
#include "flat_map.hpp"
#include "vocabulary.hpp"

namespace conclave::tokenizer {

class BpeMerger {
 public:
  struct Scratch {
    std::vector<std::uint64_t> ranks;  // of the pair that starts at each symbol
    struct Symbol {
      TokenId id = kNoToken;
      std::int32_t previous = 0;  // -1 at the ends
      std::int32_t next = 0;
      std::uint64_t rank = 0;  // of the pair that starts here
    };
    struct Pair {
      std::uint64_t rank = 0;
      std::int32_t left = 0;
    };
    std::vector<Symbol> symbols;
    std::vector<Pair> heap;
  };

  /// `merges`: lines "left right" of token texts, best first. kCorruptData if one is no such line
  /// or names, or makes, a text that is no token.
  static base::Result<BpeMerger> create(const Vocabulary& vocabulary,
                                        const std::vector<std::string>& merges);

  /// Merges `ids` in place. kNoToken among them joins with nothing. O(n log n).
  void merge(std::vector<TokenId>& ids, Scratch& scratch) const;

 private:
  explicit BpeMerger(std::size_t merges) : pairs_(merges) {}

  void merge_by_scan(std::vector<TokenId>& ids, Scratch& scratch) const;
  void merge_by_heap(std::vector<TokenId>& ids, Scratch& scratch) const;
  void push_pair(Scratch& scratch, std::int32_t left) const;

  // (left, right) -> rank << 32 | joined token: the smaller value is the better pair, and a rank
  // belongs to one pair only.
  PairMap pairs_;
};

}  // namespace conclave::tokenizer
