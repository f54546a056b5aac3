// The keys and values of one sequence: which blocks it holds, how far they are computed, and what
// it shares with others through them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "conclave/engine/kv_blocks.hpp"

namespace conclave::engine {

/// All the tokens of a sequence so far, one call like the next but for what was appended.
using Tokens = std::span<const std::int32_t>;

inline BlockTokens block_tokens(Tokens tokens, std::size_t block) {
  return tokens.subspan(block * model::kKvBlockTokens).first<model::kKvBlockTokens>();
}

class SequenceCache {
 public:
  /// `shares`: what it computes may serve other sequences of the same salt, and the other way
  /// round.
  SequenceCache(std::string_view salt, bool shares);

  [[nodiscard]] model::KvTable table() const { return blocks_; }
  /// Positions whose keys and values are there.
  [[nodiscard]] std::uint32_t computed() const { return computed_; }

  /// Begins, with a promise of room for `positions` and what is known of them below `limit`. False,
  /// with nothing taken, unless `spare` blocks stay free.
  [[nodiscard]] bool enter(KvBlocks& pool, Tokens tokens, std::uint32_t positions,
                           std::uint32_t limit, std::uint32_t spare);
  /// A promise of room for `positions`; false if blocks are missing, with none taken.
  [[nodiscard]] bool grow(KvBlocks& pool, std::uint32_t positions);
  /// Takes the blocks of these positions, which must have been promised.
  void take(KvBlocks& pool, std::uint32_t positions);
  /// Passes over whole blocks below `limit` that others have computed since; returns the positions.
  std::uint32_t skip_known(KvBlocks& pool, Tokens tokens, std::uint32_t limit);
  /// The same with at most `blocks_max` blocks that a file has.
  std::uint32_t restore(KvBlocks& pool, KvFile& file, Tokens tokens, std::uint32_t limit,
                        std::size_t blocks_max);
  /// The keys of the whole blocks that the next `positions` positions are in.
  [[nodiscard]] std::span<const PrefixKey> next_keys(Tokens tokens, std::uint32_t positions);
  /// The next positions are computed; blocks that are full with them are there for others.
  void advance(KvBlocks& pool, Tokens tokens, std::uint32_t positions);
  /// What it computes from now on serves nobody else, nor the other way round.
  void stop_sharing() { shares_ = false; }
  /// Nothing of it serves anybody from now on: its numbers are broken.
  void forget(KvBlocks& pool);
  /// Gives all blocks back; nothing is computed.
  void release(KvBlocks& pool);

 private:
  void find_keys(Tokens tokens, std::size_t blocks);
  /// Of a block that the tokens fill and all blocks before which are known.
  [[nodiscard]] BlockContent content(Tokens tokens, std::size_t block) const;

  bool shares_;
  PrefixKey root_;
  std::vector<PrefixKey> keys_;  // of the first whole blocks; grows as they are asked for
  std::vector<model::KvBlockId> blocks_;
  std::uint64_t promised_ = 0;  // blocks beyond those
  std::uint32_t computed_ = 0;
};

}  // namespace conclave::engine
