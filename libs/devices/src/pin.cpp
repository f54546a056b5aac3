#include "conclave/devices/pin.hpp"

#include <cerrno>
#include <cstring>
#include <string>

#include "topology.hpp"

namespace conclave::devices {
namespace {

base::Status pin(const CpuSet& cpus, int scope) {
  if (cpus.empty()) {
    return base::fail(base::ErrorCode::kInvalidArgument, "no processors to bind to");
  }
  CONCLAVE_TRY(const Topology topology, load_topology(View::kAllowed));
  const Bitmap bitmap = to_bitmap(cpus);
  if (!bitmap ||
      hwloc_set_cpubind(topology.get(), bitmap.get(), scope | HWLOC_CPUBIND_STRICT) != 0) {
    return base::fail(
        base::ErrorCode::kFailedPrecondition,
        "cannot bind to processors " + cpus.to_string() + ": " + std::strerror(errno));
  }
  return {};
}

}  // namespace

base::Status pin_this_thread(const CpuSet& cpus) { return pin(cpus, HWLOC_CPUBIND_THREAD); }

base::Status pin_this_process(const CpuSet& cpus) { return pin(cpus, HWLOC_CPUBIND_PROCESS); }

base::Result<CpuSet> this_thread_cpus() {
  CONCLAVE_TRY(const Topology topology, load_topology(View::kAllowed));
  const Bitmap bitmap(hwloc_bitmap_alloc());
  if (!bitmap || hwloc_get_cpubind(topology.get(), bitmap.get(), HWLOC_CPUBIND_THREAD) != 0) {
    return base::fail(
        base::ErrorCode::kUnavailable,
        std::string("the thread's processors cannot be read: ") + std::strerror(errno));
  }
  return to_cpu_set(bitmap.get());
}

}  // namespace conclave::devices
