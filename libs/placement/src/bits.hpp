// Walking through sets of experts by words: most sets are sparse.
#pragma once

#include <bit>
#include <cstdint>

#include "conclave/wire/placement.hpp"

namespace conclave::placement {

/// Calls body(layer, expert) for every member, in order.
template <class Body>
void for_each(const wire::ExpertBits& bits, const Body& body) {
  const auto words = bits.words();
  for (std::size_t word = 0; word < words.size(); ++word) {
    for (std::uint64_t left = words[word]; left != 0; left &= left - 1) {
      const auto bit = static_cast<std::uint32_t>(word * 64) +
                       static_cast<std::uint32_t>(std::countr_zero(left));
      body(bit / bits.experts(), bit % bits.experts());
    }
  }
}

/// The word of 64 members; 0 beyond the set, which may be empty.
inline std::uint64_t word_of(const wire::ExpertBits& bits, std::size_t word) {
  return word < bits.words().size() ? bits.words()[word] : 0;
}

}  // namespace conclave::placement
