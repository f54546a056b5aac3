#include "sequence_cache.hpp"

#include <algorithm>
#include <utility>

namespace conclave::engine {

using model::kKvBlockTokens;
using model::KvBlockId;

SequenceCache::SequenceCache(std::string_view salt, bool shares)
    : shares_(shares), root_(shares ? prefix_root(salt) : PrefixKey{}) {}

void SequenceCache::find_keys(Tokens tokens, std::size_t blocks) {
  while (keys_.size() < blocks) {
    const PrefixKey& parent = keys_.empty() ? root_ : keys_.back();
    keys_.push_back(prefix_key(parent, block_tokens(tokens, keys_.size())));
  }
}

BlockContent SequenceCache::content(Tokens tokens, std::size_t block) const {
  BlockContent content{keys_[block], std::nullopt, block_tokens(tokens, block)};
  if (block > 0) content.parent = blocks_[block - 1];
  return content;
}

bool SequenceCache::enter(KvBlocks& pool, Tokens tokens, std::uint32_t positions,
                          std::uint32_t limit, std::uint32_t spare) {
  std::uint64_t taken = model::kv_blocks_of(positions);  // of those that are free now
  const std::size_t whole = shares_ ? limit / kKvBlockTokens : 0;
  find_keys(tokens, whole);
  for (std::size_t block = 0; block < whole; ++block) {
    const auto found = pool.find(content(tokens, block));
    if (!found) break;
    if (!pool.is_free(*found)) --taken;
    blocks_.push_back(*found);
  }
  if (taken + spare > pool.free()) {
    blocks_.clear();
    return false;
  }
  for (const KvBlockId block : blocks_) pool.hold(block);
  computed_ = static_cast<std::uint32_t>(blocks_.size()) * kKvBlockTokens;
  return grow(pool, positions);
}

bool SequenceCache::grow(KvBlocks& pool, std::uint32_t positions) {
  const std::uint64_t wanted = model::kv_blocks_of(positions);
  const std::uint64_t there = blocks_.size() + promised_;
  if (wanted <= there) return true;
  if (!pool.promise(wanted - there)) return false;
  promised_ += wanted - there;
  return true;
}

void SequenceCache::take(KvBlocks& pool, std::uint32_t positions) {
  const std::uint64_t wanted = model::kv_blocks_of(positions);
  if (wanted <= blocks_.size()) return;
  const std::uint64_t count = wanted - blocks_.size();
  promised_ -= count;
  pool.allocate_promised(count, blocks_);
}

// A block that is begun is given up for one that is whole.
std::uint32_t SequenceCache::skip_known(KvBlocks& pool, Tokens tokens, std::uint32_t limit) {
  if (!shares_) return 0;
  const std::uint32_t before = computed_;
  const std::size_t whole = limit / kKvBlockTokens;
  find_keys(tokens, whole);
  for (std::size_t block = computed_ / kKvBlockTokens; block < whole; ++block) {
    const auto found = pool.find(content(tokens, block));
    if (!found) break;
    if (block == blocks_.size()) {
      pool.unpromise(1);
      --promised_;
      blocks_.push_back(*found);
      pool.hold(*found);
    } else {
      pool.hold(*found);
      pool.release(std::exchange(blocks_[block], *found));
    }
    computed_ = static_cast<std::uint32_t>(block + 1) * kKvBlockTokens;
  }
  return computed_ - before;
}

std::uint32_t SequenceCache::restore(KvBlocks& pool, KvFile& file, Tokens tokens,
                                     std::uint32_t limit, std::size_t blocks_max) {
  if (!shares_ || computed_ % kKvBlockTokens != 0) return 0;
  const std::uint32_t before = computed_;
  const std::size_t first = computed_ / kKvBlockTokens;
  const std::size_t end = std::min<std::size_t>(limit / kKvBlockTokens, first + blocks_max);
  find_keys(tokens, end);
  for (std::size_t block = first; block < end; ++block) {
    if (!file.has(keys_[block], block_tokens(tokens, block))) break;
    take(pool, computed_ + kKvBlockTokens);
    if (!file.get(blocks_[block], keys_[block], block_tokens(tokens, block))) break;
    advance(pool, tokens, kKvBlockTokens);
  }
  return computed_ - before;
}

std::span<const PrefixKey> SequenceCache::next_keys(Tokens tokens, std::uint32_t positions) {
  if (!shares_) return {};
  const std::size_t whole = tokens.size() / kKvBlockTokens;
  find_keys(tokens, whole);
  const std::size_t first = std::min<std::size_t>(computed_ / kKvBlockTokens, whole);
  const std::size_t end =
      std::min(model::kv_blocks_of(computed_ + positions), std::uint64_t{whole});
  return std::span(keys_).subspan(first, end - first);
}

void SequenceCache::advance(KvBlocks& pool, Tokens tokens, std::uint32_t positions) {
  std::size_t block = computed_ / kKvBlockTokens;
  computed_ += positions;
  if (!shares_) return;
  const std::size_t whole = computed_ / kKvBlockTokens;
  find_keys(tokens, whole);
  // Behind a block that stays unknown, for want of a key of its own, nothing can be found.
  for (; block < whole && (block == 0 || pool.is_known(blocks_[block - 1])); ++block) {
    blocks_[block] = pool.publish(blocks_[block], content(tokens, block));
  }
}

void SequenceCache::forget(KvBlocks& pool) {
  for (const KvBlockId block : blocks_) pool.forget(block);
}

void SequenceCache::release(KvBlocks& pool) {
  pool.release(blocks_);
  pool.unpromise(std::exchange(promised_, 0));
  computed_ = 0;
}

}  // namespace conclave::engine
