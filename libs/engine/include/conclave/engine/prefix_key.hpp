// Names what a KV block holds: a digest of its tokens and of everything before them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "conclave/model/kv_pool.hpp"

namespace conclave::engine {

/// The tokens of one whole block.
using BlockTokens = std::span<const std::int32_t, model::kKvBlockTokens>;

/// 128 bits of BLAKE2b: nobody finds two prefixes of one key, with no secret to keep, so that the
/// keys of two processes can be compared. About 0.2 us a block, 1/100000 of computing it.
struct PrefixKey {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend bool operator==(const PrefixKey&, const PrefixKey&) = default;
};

/// Before the first block. Whoever must not share blocks has another salt: a tenant, an adapter.
PrefixKey prefix_root(std::string_view salt);
/// Of the block with `tokens` after the one of `parent`.
PrefixKey prefix_key(const PrefixKey& parent, BlockTokens tokens);

}  // namespace conclave::engine
