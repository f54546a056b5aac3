#include "conclave/devices/device.hpp"

#include <gmock/gmock.h>

#include "conclave/devices/machine.hpp"

namespace conclave::devices {
namespace {

using base::ErrorCode;
using testing::HasSubstr;

Machine machine_with(const char* cpus) {
  Machine machine;
  machine.cpus = *CpuSet::parse(cpus);
  return machine;
}

TEST(DeviceTest, ReadsEveryKind) {
  EXPECT_EQ(Device::parse("cpu"), (Device{DeviceKind::kCpu, CpuSet(), ""}));
  EXPECT_EQ(Device::parse("cpu:0-1"), (Device{DeviceKind::kCpu, CpuSet({0, 1}), ""}));
  EXPECT_EQ(Device::parse("cuda:0"), (Device{DeviceKind::kCuda, CpuSet(), "0"}));
  EXPECT_EQ(Device::parse("cuda:MIG-3f2a-11"),
            (Device{DeviceKind::kCuda, CpuSet(), "MIG-3f2a-11"}));
  EXPECT_EQ(Device::parse("hpu:1"), (Device{DeviceKind::kHpu, CpuSet(), "1"}));
}

TEST(DeviceTest, PrintsTheNameItRead) {
  for (const char* name : {"cpu", "cpu:0-3,6", "cuda:0", "cuda:MIG-3f2a", "hpu:7"}) {
    EXPECT_EQ(Device::parse(name)->to_string(), name);
  }
}

TEST(DeviceTest, RefusesOtherNamesAndSaysWhy) {
  for (const char* name : {"", ":", "gpu:0", "CPU", "cpu:", "cpu:x", "cuda", "cuda:", "cuda:a b",
                           "hpu:\n", "cpu:3-1", "cuda:../x"}) {
    const auto device = Device::parse(name);
    ASSERT_FALSE(device.has_value()) << name;
    EXPECT_EQ(device.error().code, ErrorCode::kInvalidArgument) << name;
  }
  EXPECT_FALSE(Device::parse("cuda:" + std::string(1000, '0')).has_value());
  EXPECT_THAT(Device::parse("cpu:0-x").error().message,
              HasSubstr("'cpu:0-x': 'x' is no processor"));
  EXPECT_THAT(Device::parse("cuda").error().message, HasSubstr("cuda:0"));
}

TEST(DeviceTest, ComputesOnTheProcessorsNamedOrOnAllAllowed) {
  const Machine machine = machine_with("0-3");
  EXPECT_EQ(processors_of(*Device::parse("cpu:1,3"), machine), CpuSet({1, 3}));
  EXPECT_EQ(processors_of(*Device::parse("cpu"), machine), machine.cpus);
}

TEST(DeviceTest, RefusesProcessorsThatTheProcessMayNotUse) {
  const auto cpus = processors_of(*Device::parse("cpu:0-9"), machine_with("0-1"));
  ASSERT_FALSE(cpus.has_value());
  EXPECT_EQ(cpus.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(cpus.error().message, "cpu:0-9, but this process may use 0-1");
}

TEST(DeviceTest, SaysThatAcceleratorsAreNotInThisBuild) {
  for (const char* name : {"cuda:0", "hpu:0"}) {
    const auto cpus = processors_of(*Device::parse(name), machine_with("0"));
    ASSERT_FALSE(cpus.has_value());
    EXPECT_EQ(cpus.error().code, ErrorCode::kUnimplemented);
  }
}

}  // namespace
}  // namespace conclave::devices
