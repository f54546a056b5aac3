#include "conclave/model/kv_pool.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <limits>
#include <string>

namespace conclave::model {

using base::ErrorCode;
using base::fail;

KvPool::KvPool(const ModelConfig& config, KvType type, std::uint32_t blocks)
    : layers_(config.layers),
      heads_(config.attention.kv_heads),
      layout_{type, config.attention.key_dim, config.attention.value_dim,
              config.architecture->attention == AttentionKind::kLatent},
      blocks_(blocks) {}

KvPool::~KvPool() {
  if (memory_ != nullptr) ::munmap(memory_, blocks_ * block_bytes());
}

bool KvPool::populate(std::uint32_t first, std::uint32_t count) const {
#if defined(MADV_POPULATE_WRITE)
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(memory_ + first * block_bytes());
  const auto from = begin / page * page;
  const std::size_t bytes = begin - from + count * block_bytes();
  return ::madvise(reinterpret_cast<void*>(from), bytes, MADV_POPULATE_WRITE) == 0;
#else
  return false;
#endif
}

std::size_t KvPool::block_bytes(const ModelConfig& config, KvType type) {
  return KvPool(config, type, 0).block_bytes();
}

base::Result<std::unique_ptr<KvPool>> KvPool::create(const ModelConfig& config, KvType type,
                                                     std::uint64_t blocks) {
  if (blocks == 0 || blocks > std::numeric_limits<KvBlockId>::max()) {
    return fail(ErrorCode::kInvalidArgument,
                "a cache of " + std::to_string(blocks) + " blocks of keys and values");
  }
  std::unique_ptr<KvPool> pool(new KvPool(config, type, static_cast<std::uint32_t>(blocks)));
  void* memory = ::mmap(nullptr, blocks * pool->block_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return fail(ErrorCode::kOverloaded, "no room for " + std::to_string(blocks) +
                                            " blocks of keys and values of " +
                                            std::to_string(pool->block_bytes()) + " bytes each");
  }
  ::madvise(memory, blocks * pool->block_bytes(), MADV_HUGEPAGE);
  pool->memory_ = static_cast<std::byte*>(memory);
  return pool;
}

}  // namespace conclave::model
