// What a worker computes on, by name: "cpu", "cpu:0-3", "cuda:0", "cuda:MIG-…", "hpu:1".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/devices/cpu_set.hpp"

namespace conclave::devices {

struct Machine;

enum class DeviceKind : std::uint8_t { kCpu, kCuda, kHpu };

/// "cpu", "cuda", "hpu": also the device class by which worker groups are formed.
std::string_view to_string(DeviceKind kind);

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  CpuSet cpus;       // kCpu: the processors to use; empty means all that the process may use
  std::string unit;  // kCuda, kHpu: "0", "MIG-…", "GPU-…"; empty for kCpu

  /// kInvalidArgument says what is wrong with the name.
  static base::Result<Device> parse(std::string_view name);

  /// The name again; parse(to_string()) gives the same device.
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Device&, const Device&) = default;
};

/// The processors on which `device` computes on `machine`. kInvalidArgument if it names processors
/// that the process may not use ("cpu:0-9, but this machine has 0-1"); kUnimplemented for
/// accelerators, whose compute is a plugin that this build does not have.
base::Result<CpuSet> processors_of(const Device& device, const Machine& machine);

}  // namespace conclave::devices
