#include "conclave/devices/machine.hpp"

#include <gmock/gmock.h>
#include <sched.h>

#include <vector>

#include "conclave/devices/pin.hpp"

namespace conclave::devices {
namespace {

// The kernel's own word for what this thread may use.
CpuSet affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(::sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return CpuSet(cpus);
}

TEST(MachineTest, FindsTheProcessorsThatTheProcessMayUse) {
  const auto machine = discover();
  ASSERT_TRUE(machine.has_value()) << machine.error().to_string();
  EXPECT_EQ(machine->cpus, affinity());
  EXPECT_GE(machine->packages, 1u);
}

TEST(MachineTest, HeedsTheBindingOfTheProcess) {
  const CpuSet before = affinity();
  const CpuSet last({before.cpus().back()});
  ASSERT_TRUE(pin_this_process(last).has_value());
  const auto machine = discover();
  ASSERT_TRUE(pin_this_process(before).has_value());
  ASSERT_TRUE(machine.has_value()) << machine.error().to_string();
  EXPECT_EQ(machine->cpus, last);
  EXPECT_EQ(machine->cores.size(), 1u);
}

TEST(MachineTest, GivesEachProcessorToOneCore) {
  const auto machine = discover();
  ASSERT_TRUE(machine.has_value());
  std::vector<unsigned> all;
  for (const Core& core : machine->cores) {
    all.insert(all.end(), core.cpus.cpus().begin(), core.cpus.cpus().end());
  }
  EXPECT_EQ(all.size(), machine->cpus.size());
  EXPECT_EQ(CpuSet(all), machine->cpus);
}

TEST(MachineTest, CountsMemoryOnceAndHeedsLimits) {
  const auto machine = discover();
  ASSERT_TRUE(machine.has_value());
  std::uint64_t sum = 0;
  for (const NumaNode& node : machine->numa_nodes) sum += node.memory_bytes;
  EXPECT_EQ(sum, machine->memory_bytes);
  EXPECT_GT(machine->memory_bytes, std::uint64_t{64} << 20);
  EXPECT_GT(machine->memory_limit_bytes, 0u);
  EXPECT_LE(machine->memory_limit_bytes, machine->memory_bytes);
}

}  // namespace
}  // namespace conclave::devices
