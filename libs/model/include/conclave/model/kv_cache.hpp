// The keys and values of one sequence, in blocks of 16 tokens. Keys are kept transposed so that the
// scores of 16 tokens are one vector; see kernels::KernelTable::key_scores.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/base/result.hpp"
#include "conclave/model/config.hpp"

namespace conclave::model {

inline constexpr std::uint32_t kKvBlockTokens = 16;

/// Owned by its sequence; one thread at a time. Grows by whole blocks up to `max_tokens`.
class KvCache {
 public:
  KvCache(const ModelConfig& config, std::uint32_t max_tokens);

  /// Makes room for positions below `tokens`. kOverloaded beyond `max_tokens`, or when
  /// the system has no memory for it.
  base::Status reserve(std::uint32_t tokens);

  [[nodiscard]] std::uint32_t max_tokens() const { return max_tokens_; }
  /// Bytes of one block, over all layers.
  [[nodiscard]] std::size_t block_bytes() const;

  /// (key_dim, 16): the value d of token t at [d * 16 + t % 16].
  [[nodiscard]] float* keys(std::uint32_t layer, std::uint32_t block, std::uint32_t head) {
    return blocks_[block].data() + (std::size_t{layer} * heads_ + head) * head_floats_;
  }
  /// (16, value_dim).
  [[nodiscard]] float* values(std::uint32_t layer, std::uint32_t block, std::uint32_t head) {
    return keys(layer, block, head) + std::size_t{key_dim_} * kKvBlockTokens;
  }

 private:
  std::uint32_t layers_;
  std::uint32_t heads_;
  std::uint32_t key_dim_;
  std::size_t head_floats_;
  std::uint32_t max_tokens_;
  std::vector<base::AlignedVector<float>> blocks_;
};

}  // namespace conclave::model
