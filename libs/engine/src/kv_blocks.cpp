#include "conclave/engine/kv_blocks.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::engine {

using model::KvBlockId;

KvBlocks::KvBlocks(std::uint32_t blocks, KvFile* file)
    : file_(file),
      blocks_(blocks),
      buckets_(std::bit_ceil(std::max<std::size_t>(1, blocks)), kNone) {
  for (KvBlockId block = blocks; block-- > 0;) link(block);
}

bool KvBlocks::allocate(std::uint64_t count, std::vector<KvBlockId>& table) {
  if (!promise(count)) return false;
  allocate_promised(count, table);
  return true;
}

bool KvBlocks::promise(std::uint64_t count) {
  if (count > free()) return false;
  promised_ += static_cast<std::uint32_t>(count);
  return true;
}

void KvBlocks::allocate_promised(std::uint64_t count, std::vector<KvBlockId>& table) {
  unpromise(count);
  for (; count > 0; --count) {
    const KvBlockId block = first_;
    unlink(block);
    if (file_ != nullptr && blocks_[block].is_known) {
      file_->put(block, blocks_[block].key, blocks_[block].tokens);
    }
    forget(block);
    blocks_[block].holders = 1;
    table.push_back(block);
  }
}

void KvBlocks::unpromise(std::uint64_t count) {
  CONCLAVE_CHECK(count <= promised_);
  promised_ -= static_cast<std::uint32_t>(count);
}

void KvBlocks::hold(KvBlockId block) {
  if (blocks_[block].holders++ == 0) unlink(block);
}

void KvBlocks::release(std::vector<KvBlockId>& table) {
  for (; !table.empty(); table.pop_back()) release(table.back());
}

void KvBlocks::release(KvBlockId block) {
  CONCLAVE_CHECK(blocks_[block].holders > 0);
  if (--blocks_[block].holders == 0) link(block);
}

KvBlockId KvBlocks::at(const PrefixKey& key) const {
  KvBlockId block = buckets_[key.low & (buckets_.size() - 1)];
  while (block != kNone && blocks_[block].key != key) block = blocks_[block].next_in_bucket;
  return block;
}

std::optional<KvBlockId> KvBlocks::find(const BlockContent& content) const {
  const KvBlockId block = at(content.key);
  if (block == kNone || blocks_[block].parent != content.parent.value_or(kNone) ||
      !std::equal(content.tokens.begin(), content.tokens.end(), blocks_[block].tokens.begin())) {
    return std::nullopt;
  }
  return block;
}

KvBlockId KvBlocks::publish(KvBlockId block, const BlockContent& content) {
  CONCLAVE_CHECK(blocks_[block].holders == 1 && !blocks_[block].is_known);
  if (const auto same = find(content)) {
    hold(*same);
    release(block);
    return *same;
  }
  if (at(content.key) != kNone) return block;
  Block& known = blocks_[block];
  known.is_known = true;
  known.key = content.key;
  known.parent = content.parent.value_or(kNone);
  std::copy(content.tokens.begin(), content.tokens.end(), known.tokens.begin());
  known.next_in_bucket = std::exchange(bucket(content.key), block);
  ++known_;
  return block;
}

void KvBlocks::forget(KvBlockId block) {
  Block& known = blocks_[block];
  if (!std::exchange(known.is_known, false)) return;
  KvBlockId* at = &bucket(known.key);
  while (*at != block) at = &blocks_[*at].next_in_bucket;
  *at = known.next_in_bucket;
  --known_;
}

// What knows nothing is the next to be given: its memory is still in the processor's caches.
void KvBlocks::link(KvBlockId block) {
  Block& free = blocks_[block];
  free.before = free.is_known ? last_ : kNone;
  free.after = free.is_known ? kNone : first_;
  (free.before == kNone ? first_ : blocks_[free.before].after) = block;
  (free.after == kNone ? last_ : blocks_[free.after].before) = block;
  ++free_;
}

void KvBlocks::unlink(KvBlockId block) {
  const Block& free = blocks_[block];
  (free.before == kNone ? first_ : blocks_[free.before].after) = free.after;
  (free.after == kNone ? last_ : blocks_[free.after].before) = free.before;
  --free_;
}

}  // namespace conclave::engine
