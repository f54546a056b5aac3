#include "buffer_pool.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

namespace conclave::fabric {
namespace {

TEST(BufferPoolTest, GivesAlignedMemoryOfAnySize) {
  const auto pool = BufferPool::create(1 << 20);
  for (const std::size_t bytes : {0ul, 1ul, 4096ul, 4097ul, 100'000ul, 3ul << 20}) {
    const Buffer buffer = pool->get(bytes);
    ASSERT_EQ(buffer.bytes().size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.bytes().data()) % 64, 0u);
    std::memset(buffer.bytes().data(), 1, bytes);
  }
}

TEST(BufferPoolTest, UsesMemoryAgainAndKeepsOnlySoMuch) {
  const auto pool = BufferPool::create(64 << 10);
  const std::byte* first = nullptr;
  {
    Buffer a = pool->get(30'000);
    first = a.bytes().data();
    const Buffer b = pool->get(30'000);
    const Buffer c = pool->get(30'000);
    EXPECT_EQ(pool->lent_bytes(), 90'000u);
    Buffer moved = std::move(a);
    EXPECT_TRUE(a.empty());  // NOLINT: that is what is tested
    EXPECT_EQ(moved.bytes().data(), first);
  }
  EXPECT_EQ(pool->lent_bytes(), 0u);
  EXPECT_EQ(pool->kept_bytes(), 64u << 10);  // two of the three
  const Buffer again = pool->get(20'000);
  EXPECT_EQ(pool->kept_bytes(), 32u << 10);
}

TEST(BufferPoolTest, OutlivesItsOwnerWhileABufferIsOut) {
  auto pool = BufferPool::create(1 << 20);
  Buffer buffer = pool->get(5000);
  pool.reset();
  std::thread other([held = std::move(buffer)]() mutable {
    std::memset(held.bytes().data(), 2, held.bytes().size());
    held = Buffer();
  });
  other.join();
}

}  // namespace
}  // namespace conclave::fabric
