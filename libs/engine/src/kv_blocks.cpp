#include "conclave/engine/kv_blocks.hpp"

#include <numeric>

namespace conclave::engine {

KvBlocks::KvBlocks(std::uint32_t blocks) : total_(blocks), free_(blocks) {
  std::iota(free_.rbegin(), free_.rend(), model::KvBlockId{0});
}

bool KvBlocks::allocate(std::uint64_t count, std::vector<model::KvBlockId>& table) {
  if (count > free_.size()) return false;
  table.insert(table.end(), free_.rbegin(), free_.rbegin() + static_cast<std::ptrdiff_t>(count));
  free_.resize(free_.size() - count);
  return true;
}

void KvBlocks::release(std::vector<model::KvBlockId>& table) {
  free_.insert(free_.end(), table.rbegin(), table.rend());
  table.clear();
}

}  // namespace conclave::engine
