// Who holds the blocks of a KvPool, and what the blocks that nobody holds any more still know: the
// prefix cache. Pure bookkeeping: it never touches the memory.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "conclave/engine/kv_file.hpp"
#include "conclave/engine/prefix_key.hpp"
#include "conclave/model/kv_pool.hpp"

namespace conclave::engine {

/// What a whole block holds: its tokens, after those of the block before it.
struct BlockContent {
  PrefixKey key;                           // of all of it
  std::optional<model::KvBlockId> parent;  // the block before it; none: it is the first
  BlockTokens tokens;
};

/// One thread. A block is held by any number of sequences, or by none and then free; its content
/// may be known either way. Blocks are given anew in this order: those that know nothing, then
/// those that nobody has held for longest. A table is released from its end, so the block before
/// is always forgotten after the one behind it.
///
/// A block whose content is known is never written again. `find` compares tokens and parents, not
/// keys alone: a collision of keys is a miss.
class KvBlocks {
 public:
  /// `file`, if there is one, gets what is forgotten to make room; it must outlive the blocks.
  explicit KvBlocks(std::uint32_t blocks, KvFile* file = nullptr);

  [[nodiscard]] std::uint32_t total() const { return static_cast<std::uint32_t>(blocks_.size()); }
  /// Held by nobody and promised to nobody, those of known content among them.
  [[nodiscard]] std::uint32_t free() const { return free_ - promised_; }
  /// Of known content, held or not.
  [[nodiscard]] std::uint32_t known() const { return known_; }
  [[nodiscard]] bool is_free(model::KvBlockId block) const { return blocks_[block].holders == 0; }
  [[nodiscard]] bool is_known(model::KvBlockId block) const { return blocks_[block].is_known; }

  /// Appends `count` blocks of no content, each with one holder, or none and false if so many are
  /// not free.
  [[nodiscard]] bool allocate(std::uint64_t count, std::vector<model::KvBlockId>& table);
  /// Of `count` blocks allocate_promised() is sure from now on: who is promised blocks and takes
  /// them later leaves others what they know so long. False if so many are not free.
  [[nodiscard]] bool promise(std::uint64_t count);
  void allocate_promised(std::uint64_t count, std::vector<model::KvBlockId>& table);
  void unpromise(std::uint64_t count);
  /// One more holder.
  void hold(model::KvBlockId block);
  /// One holder less of each, from the last on; empties the table.
  void release(std::vector<model::KvBlockId>& table);
  void release(model::KvBlockId block);

  /// The block that is known to hold this. It may be free: hold() it before the next allocate().
  [[nodiscard]] std::optional<model::KvBlockId> find(const BlockContent& content) const;
  /// The caller's block is full, and `content` what it holds. Returns the block to use from now on:
  /// if another one is known to hold the same, that one, held, and `block` is released. If the key
  /// is another content's, the block stays unknown.
  [[nodiscard]] model::KvBlockId publish(model::KvBlockId block, const BlockContent& content);
  /// The content is known no more, as if it had not been published.
  void forget(model::KvBlockId block);

 private:
  static constexpr model::KvBlockId kNone = ~model::KvBlockId{0};

  struct Block {
    std::uint32_t holders = 0;
    bool is_known = false;
    // Free ones are a list, the next to be given first.
    model::KvBlockId before = kNone;
    model::KvBlockId after = kNone;
    // Known ones.
    model::KvBlockId next_in_bucket = kNone;
    model::KvBlockId parent = kNone;
    PrefixKey key;
    std::array<std::int32_t, model::kKvBlockTokens> tokens;
  };

  [[nodiscard]] model::KvBlockId& bucket(const PrefixKey& key) {
    return buckets_[key.low & (buckets_.size() - 1)];
  }
  /// kNone, or the one known block of this key.
  [[nodiscard]] model::KvBlockId at(const PrefixKey& key) const;
  void link(model::KvBlockId block);
  void unlink(model::KvBlockId block);

  KvFile* file_;
  std::vector<Block> blocks_;
  std::vector<model::KvBlockId> buckets_;  // a power of two of them
  model::KvBlockId first_ = kNone;
  model::KvBlockId last_ = kNone;
  std::uint32_t free_ = 0;  // held by nobody
  std::uint32_t promised_ = 0;
  std::uint32_t known_ = 0;
};

}  // namespace conclave::engine
