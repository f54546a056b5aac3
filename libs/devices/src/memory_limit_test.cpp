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

TEST_F(MemoryLimitTest, WhatIsAvailableIsTheLeastThatGroupsAndSystemLeave) {
  write("proc/meminfo", "MemTotal:  100 kB\nMemFree:  10 kB\nMemAvailable:   40 kB\n");
  EXPECT_EQ(available_memory(root), 40u * 1024);
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/memory.max", "30000\n");
  write("sys/fs/cgroup/a/memory.current", "12000\n");
  write("sys/fs/cgroup/a/memory.stat", "anon 7000\nactive_file 3000\ninactive_file 2000\n");
  EXPECT_EQ(available_memory(root), 30000u - 7000);
  write("sys/fs/cgroup/a/b/memory.max", "20000\n");  // nobody tells its usage: the limit counts
  EXPECT_EQ(available_memory(root), 20000u);
  write("sys/fs/cgroup/a/memory.current", "90000\n");  // a limit that was lowered
  EXPECT_EQ(available_memory(root), 0u);
}

TEST_F(MemoryLimitTest, WhatIsAvailableIsToldByTheFirstVersionToo) {
  write("proc/self/cgroup", "5:memory:/docker/abc\n");
  write("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "65536\n");
  write("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "60000\n");
  write("sys/fs/cgroup/memory/docker/abc/memory.stat",
        "inactive_file 1\ntotal_inactive_file 20000\ntotal_active_file 30000\n");
  EXPECT_EQ(available_memory(root), 65536u - 10000);
}

TEST_F(MemoryLimitTest, NothingIsAvailableWhereNobodyTells) {
  EXPECT_EQ(available_memory(root), std::nullopt);
  write("proc/meminfo", "nonsense\n\nMemAvailable: x kB\n");
  EXPECT_EQ(available_memory(root), std::nullopt);
}

TEST_F(MemoryLimitTest, IgnoresLinesThatItDoesNotUnderstand) {
  write("proc/self/cgroup", "nonsense\n:\n0:\n\n0::/a\n");
  write("sys/fs/cgroup/memory.max", "12 apples");
  write("sys/fs/cgroup/a/memory.max", "-5\n");
  EXPECT_EQ(cgroup_memory_limit(root), 12u);
}

}  // namespace
}  // namespace conclave::devices
