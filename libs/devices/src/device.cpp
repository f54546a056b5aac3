#include "conclave/devices/device.hpp"

#include <algorithm>

#include "conclave/base/text.hpp"
#include "conclave/devices/machine.hpp"

namespace conclave::devices {
namespace {

using base::ErrorCode;

// "MIG-" and a UUID have 40 characters.
constexpr std::size_t kUnitBytesMax = 64;

// An index, or a UUID as the drivers print it: "0", "MIG-…", "GPU-…".
bool is_unit(std::string_view text) {
  return !text.empty() && text.size() <= kUnitBytesMax &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '-' || c == '/';
         });
}

}  // namespace

std::string_view to_string(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCpu:
      return "cpu";
    case DeviceKind::kCuda:
      return "cuda";
    case DeviceKind::kHpu:
      return "hpu";
  }
  return "";
}

base::Result<Device> Device::parse(std::string_view name) {
  const std::size_t colon = name.find(':');
  const std::string_view kind = name.substr(0, colon);
  const bool has_detail = colon != std::string_view::npos;
  const std::string_view detail = has_detail ? name.substr(colon + 1) : std::string_view();
  if (kind == "cpu") {
    Device device;
    if (!has_detail) return device;
    auto cpus = CpuSet::parse(detail);
    if (!cpus) return base::fail(cpus.error().within(base::shown(name)));
    device.cpus = *std::move(cpus);
    return device;
  }
  for (const DeviceKind accelerator : {DeviceKind::kCuda, DeviceKind::kHpu}) {
    if (kind != devices::to_string(accelerator)) continue;
    if (is_unit(detail)) return Device{accelerator, CpuSet(), std::string(detail)};
    return base::fail(ErrorCode::kInvalidArgument,
                      base::shown(name) + " needs a unit, as in '" + std::string(kind) + ":0'");
  }
  return base::fail(ErrorCode::kInvalidArgument,
                    base::shown(name) + " is no device: cpu, cpu:0-3, cuda:0, cuda:MIG-.., hpu:0");
}

std::string Device::to_string() const {
  const std::string detail = kind == DeviceKind::kCpu ? cpus.to_string() : unit;
  return std::string(devices::to_string(kind)) + (detail.empty() ? "" : ":" + detail);
}

base::Result<CpuSet> processors_of(const Device& device, const Machine& machine) {
  if (device.kind != DeviceKind::kCpu) {
    return base::fail(ErrorCode::kUnimplemented,
                      device.to_string() + ": this build computes on processors only");
  }
  if (device.cpus.empty()) return machine.cpus;
  if (!device.cpus.without(machine.cpus).empty()) {
    return base::fail(
        ErrorCode::kInvalidArgument,
        device.to_string() + ", but this process may use " + machine.cpus.to_string());
  }
  return device.cpus;
}

}  // namespace conclave::devices
