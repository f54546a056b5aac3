#include "bits.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "conclave/base/check.hpp"

namespace conclave::scheduler {
namespace {

using wire::ExpertBits;

template <class Combine>
ExpertBits combine(const ExpertBits& a, const ExpertBits& b, Combine combine) {
  CONCLAVE_CHECK(a.layers() == b.layers() && a.experts() == b.experts());
  std::vector<std::uint64_t> words(a.words().size());
  std::transform(a.words().begin(), a.words().end(), b.words().begin(), words.begin(), combine);
  return {a.layers(), a.experts(), words};
}

}  // namespace

ExpertBits operator|(const ExpertBits& a, const ExpertBits& b) {
  return combine(a, b, [](std::uint64_t x, std::uint64_t y) { return x | y; });
}

ExpertBits operator&(const ExpertBits& a, const ExpertBits& b) {
  return combine(a, b, [](std::uint64_t x, std::uint64_t y) { return x & y; });
}

ExpertBits operator-(const ExpertBits& a, const ExpertBits& b) {
  return combine(a, b, [](std::uint64_t x, std::uint64_t y) { return x & ~y; });
}

bool is_empty(const ExpertBits& bits) {
  return std::all_of(bits.words().begin(), bits.words().end(),
                     [](std::uint64_t word) { return word == 0; });
}

void for_each(const ExpertBits& bits,
              const std::function<void(std::uint32_t layer, std::uint32_t index)>& body) {
  for (std::size_t i = 0; i < bits.words().size(); ++i) {
    for (std::uint64_t word = bits.words()[i]; word != 0; word &= word - 1) {
      const std::size_t bit = i * 64 + static_cast<std::size_t>(std::countr_zero(word));
      body(static_cast<std::uint32_t>(bit / bits.experts()),
           static_cast<std::uint32_t>(bit % bits.experts()));
    }
  }
}

}  // namespace conclave::scheduler
