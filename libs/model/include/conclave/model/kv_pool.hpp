// The memory of all keys and values of a router: a fixed number of blocks of 16 tokens, each with
// every layer and KV head. Keys are kept transposed so that the scores of 16 tokens are one vector.
// It knows bytes and places, not which block belongs to whom: the engine's KvBlocks does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "conclave/base/result.hpp"
#include "conclave/model/config.hpp"

namespace conclave::model {

inline constexpr std::uint32_t kKvBlockTokens = 16;

using KvBlockId = std::uint32_t;

/// Blocks that hold `tokens` tokens.
constexpr std::uint64_t kv_blocks_of(std::uint64_t tokens) {
  return (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
}

/// The table of a sequence: blocks[position / 16] holds the position.
using KvTable = std::span<const KvBlockId>;

/// Borrowed by everything that computes; blocks of different ids may be used by different threads
/// at once. The system gives the memory page by page as it is first written.
class KvPool {
 public:
  /// Room for `blocks` blocks. kOverloaded: the system has no address space for them;
  /// kInvalidArgument: no blocks at all, or more than a KvBlockId can name.
  static base::Result<std::unique_ptr<KvPool>> create(const ModelConfig& config,
                                                      std::uint64_t blocks);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  /// Bytes of one block, over all layers.
  static std::size_t block_bytes(const ModelConfig& config);

  [[nodiscard]] std::uint32_t blocks() const { return blocks_; }
  [[nodiscard]] std::size_t block_bytes() const { return layers_ * heads_ * head_bytes_; }

  /// (key_dim, 16): the value d of token t at [d * 16 + t % 16].
  [[nodiscard]] float* keys(KvBlockId block, std::uint32_t layer, std::uint32_t head) const {
    return reinterpret_cast<float*>(memory_ + block * block_bytes() +
                                    (layer * heads_ + head) * head_bytes_);
  }
  /// (16, value_dim).
  [[nodiscard]] float* values(KvBlockId block, std::uint32_t layer, std::uint32_t head) const {
    return keys(block, layer, head) + key_dim_ * kKvBlockTokens;
  }
  /// All of a block, to be copied elsewhere and back.
  [[nodiscard]] std::span<std::byte> bytes(KvBlockId block) const {
    return {memory_ + block * block_bytes(), block_bytes()};
  }

 private:
  KvPool(const ModelConfig& config, std::uint32_t blocks);

  std::size_t layers_;
  std::size_t heads_;
  std::size_t key_dim_;
  std::size_t head_bytes_;  // keys and values of one layer, head and block
  std::uint32_t blocks_;
  std::byte* memory_ = nullptr;  // mapped; (blocks, block_bytes)
};

}  // namespace conclave::model
