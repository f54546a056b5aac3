// Sizes that the KV layout and the attention kernels share.
#pragma once

#include <cstddef>

#include "conclave/kernels/attention.hpp"

namespace conclave::kernels::attention {

/// Queries that are packed side by side.
inline constexpr std::size_t kPackQueries = 16;
static_assert(kTileQueries % kPackQueries == 0);

/// Blocks between two looks at the running maximum. Steps start at multiples of their length, so
/// where a row's sums are rescaled depends on its own positions alone.
inline constexpr std::size_t kStepBlocks = 8;
inline constexpr std::size_t kStepTokens = kStepBlocks * kKvBlockTokens;

/// Q8_0: 32 numbers of 16 tokens, with their scales before them.
inline constexpr std::size_t kQ8Scales = kKvBlockTokens * sizeof(float);
inline constexpr std::size_t kQ8GroupBytes = kQ8Scales + std::size_t{kKvGroup} * kKvBlockTokens;

}  // namespace conclave::kernels::attention
