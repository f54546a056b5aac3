#include "conclave/kernels/attention.hpp"

#include "attention_layout.hpp"
#include "conclave/base/aligned.hpp"

namespace conclave::kernels {
namespace {

std::size_t whole_lines(std::size_t bytes) {
  return (bytes + base::kCacheLine - 1) / base::kCacheLine * base::kCacheLine;
}

// Bytes of `dim` numbers of 16 tokens.
std::size_t part_bytes(KvType type, std::size_t dim) {
  switch (type) {
    case KvType::kF32:
      return whole_lines(dim * kKvBlockTokens * 4);
    case KvType::kF16:
      return whole_lines(dim * kKvBlockTokens * 2);
    case KvType::kQ8_0:
      return (dim + kKvGroup - 1) / kKvGroup * attention::kQ8GroupBytes;
  }
  return 0;
}

}  // namespace

std::size_t KvLayout::key_bytes() const { return part_bytes(type, key_dim); }

std::size_t KvLayout::bytes() const {
  return key_bytes() + (values_in_keys ? 0 : part_bytes(type, slices() * kKvSlice));
}

std::size_t attention_room(const KvLayout& layout) {
  using namespace attention;
  const std::size_t queries = kTileQueries * layout.key_dim;
  const std::size_t sums = kTileQueries * layout.slices() * kKvSlice;
  const std::size_t scores = kTileQueries * kStepTokens;
  const std::size_t slice = layout.values_in_keys ? kStepTokens * kKvSlice : 0;
  return queries + sums + scores + slice;
}

}  // namespace conclave::kernels
