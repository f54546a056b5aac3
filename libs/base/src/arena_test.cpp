#include "conclave/base/arena.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "conclave/base/aligned.hpp"

namespace conclave::base {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

// Pages of [data, data + bytes), which starts on a page, that are in memory.
std::size_t resident_pages(const std::byte* data, std::size_t bytes) {
  std::vector<unsigned char> pages(bytes / static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(::mincore(const_cast<std::byte*>(data), bytes, pages.data()), 0);
  return static_cast<std::size_t>(std::count(pages.begin(), pages.end(), 1));
}

TEST(ArenaTest, BlocksStartOnCacheLinesAreZeroAndDoNotOverlap) {
  Arena arena(1000);
  std::vector<ArenaBlock> blocks;
  for (const std::size_t bytes : {1u, 64u, 100u, 700u}) {
    blocks.push_back(arena.allocate(bytes).value());
    ArenaBlock& block = blocks.back();
    ASSERT_EQ(block.size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data()) % kCacheLine, 0u);
    EXPECT_EQ(std::count(block.data(), block.data() + bytes, std::byte{0}), std::ptrdiff_t(bytes));
    std::memset(block.data(), static_cast<int>(blocks.size()), bytes);
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    EXPECT_EQ(blocks[i].data()[blocks[i].size() - 1], static_cast<std::byte>(i + 1));
  }
}

TEST(ArenaTest, GoesOnBeyondWhatWasExpected) {
  Arena arena(Arena::block_bytes(100));
  const ArenaBlock first = arena.allocate(100).value();
  const ArenaBlock small = arena.allocate(5000).value();
  const ArenaBlock large = arena.allocate(32 * kMegabyte).value();
  large.data()[large.size() - 1] = std::byte{1};
  small.data()[small.size() - 1] = std::byte{2};
  EXPECT_EQ(large.data()[large.size() - 1], std::byte{1});
}

TEST(ArenaTest, RefusesWhatNoSystemHas) {
  Arena arena(0);
  const auto block = arena.allocate(std::size_t{1} << 60);
  ASSERT_FALSE(block);
  EXPECT_EQ(block.error().code, ErrorCode::kOverloaded);
  EXPECT_TRUE(arena.allocate(1));
}

TEST(ArenaTest, BlocksOutliveTheArena) {
  ArenaBlock block;
  {
    Arena arena(3 * kMegabyte);
    block = arena.allocate(3 * kMegabyte).value();
  }
  std::memset(block.data(), 7, block.size());
  EXPECT_EQ(block.data()[block.size() - 1], std::byte{7});
}

TEST(ArenaTest, GivesThePagesOfABlockBackWithIt) {
  Arena arena(8 * kMegabyte);
  const ArenaBlock kept = arena.allocate(4 * kMegabyte).value();
  ArenaBlock gone = arena.allocate(4 * kMegabyte).value();
  std::memset(kept.data(), 1, kept.size());
  std::memset(gone.data(), 2, gone.size());
  const std::byte* data = gone.data();
  ASSERT_GT(resident_pages(data, 4 * kMegabyte), 0u);

  { const ArenaBlock end = std::move(gone); }

  EXPECT_EQ(resident_pages(data, 4 * kMegabyte), 0u);
  EXPECT_EQ(kept.data()[0], std::byte{1});
}

TEST(ArenaTest, TakesNoMemoryBeforeItIsWritten) {
  Arena arena(64 * kMegabyte);
  const ArenaBlock block = arena.allocate(64 * kMegabyte).value();
  EXPECT_EQ(resident_pages(block.data(), 64 * kMegabyte), 0u);
}

}  // namespace
}  // namespace conclave::base
