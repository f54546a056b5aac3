// The memory of all keys and values of a router: a fixed number of blocks of 16 tokens, each with
// every layer and KV head, laid out as kernels/attention.hpp says. It knows bytes and places, not
// which block belongs to whom: the engine's KvBlocks does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "conclave/base/result.hpp"
#include "conclave/kernels/attention.hpp"
#include "conclave/model/config.hpp"

namespace conclave::model {

using kernels::kKvBlockTokens;
using kernels::KvType;

using KvBlockId = std::uint32_t;

/// Blocks that hold `tokens` tokens.
constexpr std::uint64_t kv_blocks_of(std::uint64_t tokens) {
  return (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
}

/// The table of a sequence: blocks[position / 16] holds the position.
using KvTable = std::span<const KvBlockId>;

/// Borrowed by everything that computes; blocks of different ids may be used by different threads
/// at once. The system gives the memory page by page, as it is first written or populated.
class KvPool {
 public:
  /// Room for `blocks` blocks. kOverloaded: the system has no address space for them;
  /// kInvalidArgument: no blocks at all, or more than a KvBlockId can name.
  static base::Result<std::unique_ptr<KvPool>> create(const ModelConfig& config, KvType type,
                                                      std::uint64_t blocks);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  /// Bytes of one block, over all layers.
  static std::size_t block_bytes(const ModelConfig& config, KvType type);

  [[nodiscard]] std::uint32_t blocks() const { return blocks_; }
  [[nodiscard]] std::size_t block_bytes() const { return layers_ * heads_ * layout_.bytes(); }
  /// Of one layer and KV head of a block.
  [[nodiscard]] const kernels::KvLayout& layout() const { return layout_; }

  /// The keys and values of one layer and KV head.
  [[nodiscard]] std::byte* head(KvBlockId block, std::uint32_t layer, std::uint32_t head) const {
    return memory_ + block * block_bytes() + (layer * heads_ + head) * layout_.bytes();
  }
  /// Has the system give the memory of blocks [first, first + count) now, and not in the middle of
  /// the first step that writes to them; what they hold stays. Any thread. False: the system has
  /// none left, or cannot do this (Linux before 5.14).
  bool populate(std::uint32_t first, std::uint32_t count) const;

  /// All of a block, to be copied elsewhere and back.
  [[nodiscard]] std::span<std::byte> bytes(KvBlockId block) const {
    return {memory_ + block * block_bytes(), block_bytes()};
  }

 private:
  KvPool(const ModelConfig& config, KvType type, std::uint32_t blocks);

  std::size_t layers_;
  std::size_t heads_;
  kernels::KvLayout layout_;
  std::uint32_t blocks_;
  std::byte* memory_ = nullptr;  // mapped; (blocks, block_bytes)
};

}  // namespace conclave::model
