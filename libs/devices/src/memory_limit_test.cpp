#include "conclave/devices/memory_limit.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace conclave::devices {
namespace {

namespace fs = std::filesystem;

// A root with the files that a kernel would show.
struct MemoryLimitTest : testing::Test {
  fs::path root =
      fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
  MemoryLimitTest() { fs::remove_all(root); }
  ~MemoryLimitTest() override { fs::remove_all(root); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
};

TEST_F(MemoryLimitTest, TakesTheLeastOfTheGroupAndItsAncestors) {
  write("proc/self/cgroup", "0::/pods/one/box\n");
  write("sys/fs/cgroup/pods/memory.max", "4096\n");
  write("sys/fs/cgroup/pods/one/memory.max", "max\n");
  write("sys/fs/cgroup/pods/one/box/memory.max", "8192\n");
  EXPECT_EQ(cgroup_memory_limit(root), 4096u);
}

TEST_F(MemoryLimitTest, ReadsTheRootOfAContainersOwnMount) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "1048576\n");
  EXPECT_EQ(cgroup_memory_limit(root), 1048576u);
  write("proc/self/cgroup", "0::/../../outside\n");
  EXPECT_EQ(cgroup_memory_limit(root), 1048576u);
}

TEST_F(MemoryLimitTest, ReadsTheFirstVersionToo) {
  write("proc/self/cgroup", "9:cpu,cpuacct:/\n5:memory:/docker/abc\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "65536\n");
  EXPECT_EQ(cgroup_memory_limit(root), 65536u);
}

TEST_F(MemoryLimitTest, SaysNothingWhereThereIsNoLimit) {
  EXPECT_EQ(cgroup_memory_limit(root), std::nullopt);
  write("proc/self/cgroup", "0::/a\n5:memory:/a\n");
  EXPECT_EQ(cgroup_memory_limit(root), std::nullopt);
  write("sys/fs/cgroup/a/memory.max", "max\n");
  write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(cgroup_memory_limit(root), std::nullopt);
}

TEST_F(MemoryLimitTest, IgnoresLinesThatItDoesNotUnderstand) {
  write("proc/self/cgroup", "nonsense\n:\n0:\n\n0::/a\n");
  write("sys/fs/cgroup/memory.max", "12 apples");
  write("sys/fs/cgroup/a/memory.max", "-5\n");
  EXPECT_EQ(cgroup_memory_limit(root), 12u);
}

}  // namespace
}  // namespace conclave::devices
