#include "conclave/model/kv_cache.hpp"

#include <new>
#include <string>

namespace conclave::model {

KvCache::KvCache(const ModelConfig& config, std::uint32_t max_tokens)
    : layers_(config.layers),
      heads_(config.attention.kv_heads),
      key_dim_(config.attention.key_dim),
      head_floats_(std::size_t{config.attention.key_dim + config.attention.value_dim} *
                   kKvBlockTokens),
      max_tokens_(max_tokens) {}

std::size_t KvCache::block_bytes() const {
  return std::size_t{layers_} * heads_ * head_floats_ * sizeof(float);
}

base::Status KvCache::reserve(std::uint32_t tokens) {
  if (tokens > max_tokens_) {
    return base::fail(base::ErrorCode::kOverloaded, std::to_string(tokens) +
                                                        " tokens exceed the sequence's limit of " +
                                                        std::to_string(max_tokens_));
  }
  const std::size_t blocks = (std::size_t{tokens} + kKvBlockTokens - 1) / kKvBlockTokens;
  try {
    while (blocks_.size() < blocks) blocks_.emplace_back(block_bytes() / sizeof(float));
  } catch (const std::bad_alloc&) {
    return base::fail(base::ErrorCode::kOverloaded, "no memory left for keys and values");
  }
  return {};
}

}  // namespace conclave::model
