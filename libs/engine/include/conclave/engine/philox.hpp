// Philox4x32-10, a counter-based generator: the numbers of (key, counter) are a pure function, so a
// sequence that moves to another process, or is recomputed, draws the same ones.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <array>
#include <cstdint>

namespace conclave::engine {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// Uniform in [0, 1) with 53 bits, for the token at `position` of a sequence seeded with `seed`.
double uniform_draw(std::uint64_t seed, std::uint64_t position);

}  // namespace conclave::engine
