#include "conclave/model/kv_pool.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace conclave::model {
namespace {

ModelConfig config() {
  ModelConfig config;
  config.architecture = find_architecture("qwen3moe").value();
  config.layers = 3;
  config.attention.heads = config.attention.kv_heads = 2;
  config.attention.key_dim = config.attention.value_dim = 64;
  return config;
}

// Pages of [data, data + bytes) that lie in it as a whole, and how many of them are in memory.
std::pair<std::size_t, std::size_t> pages_of(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t begin = (first + page - 1) / page * page;
  const std::uintptr_t end = (first + bytes.size()) / page * page;
  std::vector<unsigned char> pages((end - begin) / page);
  EXPECT_EQ(::mincore(reinterpret_cast<void*>(begin), end - begin, pages.data()), 0);
  return {pages.size(), static_cast<std::size_t>(std::count(pages.begin(), pages.end(), 1))};
}

TEST(KvPoolTest, PopulatedBlocksAreInMemoryAndKeepWhatTheyHold) {
  const auto pool = KvPool::create(config(), KvType::kF16, 64).value();
  std::memset(pool->bytes(9).data(), 7, pool->block_bytes());

  ASSERT_TRUE(pool->populate(8, 40)) << "or Linux is older than 5.14";

  const std::span<const std::byte> blocks(pool->bytes(8).data(), 40 * pool->block_bytes());
  const auto [pages, resident] = pages_of(blocks);
  EXPECT_GT(pages, 0u);
  EXPECT_EQ(resident, pages);
  const auto kept = pool->bytes(9);
  EXPECT_TRUE(std::all_of(kept.begin(), kept.end(), [](std::byte b) { return b == std::byte{7}; }));
}

TEST(KvPoolTest, TakesNoMemoryBeforeItIsWrittenOrPopulated) {
  const auto pool = KvPool::create(config(), KvType::kF16, 1024).value();
  const std::span<const std::byte> blocks(pool->bytes(0).data(), 1024 * pool->block_bytes());
  EXPECT_EQ(pages_of(blocks).second, 0u);
}

TEST(KvPoolTest, RefusesAPoolOfNothingAndOneThatNoSystemHas) {
  EXPECT_EQ(KvPool::create(config(), KvType::kF16, 0).error().code,
            base::ErrorCode::kInvalidArgument);
  ModelConfig large = config();
  large.attention.kv_heads = 1u << 20;
  EXPECT_EQ(KvPool::create(large, KvType::kF32, 1u << 31).error().code,
            base::ErrorCode::kOverloaded);
}

}  // namespace
}  // namespace conclave::model
