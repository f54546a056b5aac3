#include "shared_segment.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

namespace conclave::fabric {
namespace {

Descriptor copy_of(int descriptor) { return Descriptor(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0)); }

std::size_t backed_bytes(const SharedSegment& segment) {
  struct stat status {};
  EXPECT_EQ(::fstat(segment.descriptor(), &status), 0);
  return static_cast<std::size_t>(status.st_blocks) * 512;
}

TEST(SharedSegmentTest, ShowsTheSameMemoryToBothEnds) {
  const auto made = SharedSegment::create(1 << 20);
  ASSERT_TRUE(made);
  const auto opened = SharedSegment::open(copy_of(made->descriptor()), 1 << 20);
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_EQ(opened->bytes().size(), std::size_t{1} << 20);
  made->bytes()[777] = std::byte{42};
  EXPECT_EQ(opened->bytes()[777], std::byte{42});
  opened->bytes()[778] = std::byte{43};
  EXPECT_EQ(made->bytes()[778], std::byte{43});
}

TEST(SharedSegmentTest, CannotBeMadeShorterByAnybody) {
  const auto made = SharedSegment::create(1 << 20);
  EXPECT_NE(::ftruncate(made->descriptor(), 4096), 0);
  EXPECT_NE(::ftruncate(made->descriptor(), 2 << 20), 0);
}

TEST(SharedSegmentTest, TakesPagesOnlyAsFarAsTheyAreReserved) {
  auto made = SharedSegment::create(8 << 20);
  ASSERT_TRUE(made);
  EXPECT_EQ(backed_bytes(*made), 0u);
  ASSERT_TRUE(made->reserve(1));
  EXPECT_EQ(backed_bytes(*made), std::size_t{1} << 20);
  ASSERT_TRUE(made->reserve((3 << 20) + 1));
  EXPECT_EQ(backed_bytes(*made), std::size_t{4} << 20);
  ASSERT_TRUE(made->reserve(8 << 20));
  EXPECT_EQ(backed_bytes(*made), std::size_t{8} << 20);
}

TEST(SharedSegmentTest, RefusesWhatIsTooLargeEmptyOrNoMemory) {
  const auto made = SharedSegment::create(1 << 20);
  EXPECT_FALSE(SharedSegment::open(copy_of(made->descriptor()), (1 << 20) - 1));
  EXPECT_FALSE(SharedSegment::open(Descriptor(), 1 << 20));
  EXPECT_FALSE(SharedSegment::open(Descriptor(::open("/dev/null", O_RDWR | O_CLOEXEC)), 1 << 20));
}

TEST(BlockListTest, PutsBlocksOnCacheLinesLowestFirst) {
  BlockList blocks(1024);
  EXPECT_EQ(blocks.take(1), 0u);
  EXPECT_EQ(blocks.take(65), 64u);
  EXPECT_EQ(blocks.take(64), 192u);
  blocks.give_back(64);
  EXPECT_EQ(blocks.take(129), 256u);
  EXPECT_EQ(blocks.take(128), 64u);
}

TEST(BlockListTest, SaysWhenNothingFits) {
  BlockList blocks(256);
  EXPECT_FALSE(blocks.take(257));
  EXPECT_EQ(blocks.take(100), 0u);
  EXPECT_FALSE(blocks.take(129));
  EXPECT_EQ(blocks.take(128), 128u);
  EXPECT_FALSE(blocks.take(1));
  blocks.give_back(0);
  EXPECT_EQ(blocks.take(128), 0u);
  EXPECT_FALSE(blocks.take(~std::size_t{0}));
}

}  // namespace
}  // namespace conclave::fabric
