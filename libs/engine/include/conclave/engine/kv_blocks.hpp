// Which blocks of a KvPool are in use. Pure bookkeeping: it never touches the memory.
#pragma once

#include <cstdint>
#include <vector>

#include "conclave/model/kv_pool.hpp"

namespace conclave::engine {

/// One thread. Every block handed out is given back once.
class KvBlocks {
 public:
  explicit KvBlocks(std::uint32_t blocks);

  [[nodiscard]] std::uint32_t total() const { return total_; }
  [[nodiscard]] std::uint32_t free() const { return static_cast<std::uint32_t>(free_.size()); }

  /// Appends `count` blocks to `table`, or none and false if so many are not free.
  [[nodiscard]] bool allocate(std::uint64_t count, std::vector<model::KvBlockId>& table);
  /// Takes all blocks of `table` back and empties it.
  void release(std::vector<model::KvBlockId>& table);

 private:
  std::uint32_t total_;
  std::vector<model::KvBlockId> free_;  // the last one goes first
};

}  // namespace conclave::engine
