#include "topology.hpp"

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace conclave::devices {

base::Result<Topology> load_topology(View view) {
  hwloc_topology_t handle = nullptr;
  int failed = hwloc_topology_init(&handle);
  Topology topology(failed == 0 ? handle : nullptr);
  // Processors and memory are all that is asked for: without PCI and the like it loads faster.
  if (failed == 0) {
    hwloc_topology_set_io_types_filter(handle, HWLOC_TYPE_FILTER_KEEP_NONE);
    // Looking must not move a thread, or one that starts meanwhile would stay where it was moved.
    unsigned long flags = HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING;
    if (view == View::kBound) {
      flags |= HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING | HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM;
    }
    hwloc_topology_set_flags(handle, flags);
    failed = hwloc_topology_load(handle);
  }
  if (failed != 0) {
    return base::fail(
        base::ErrorCode::kUnavailable,
        std::string("the machine's topology cannot be read: ") + std::strerror(errno));
  }
  return topology;
}

Bitmap to_bitmap(const CpuSet& cpus) {
  Bitmap bitmap(hwloc_bitmap_alloc());
  for (const unsigned cpu : cpus.cpus()) {
    if (bitmap && hwloc_bitmap_set(bitmap.get(), cpu) != 0) bitmap.reset();
  }
  return bitmap;
}

CpuSet to_cpu_set(hwloc_const_bitmap_t bitmap) {
  std::vector<unsigned> cpus;
  for (int cpu = hwloc_bitmap_first(bitmap); cpu >= 0 && cpu <= static_cast<int>(kCpuMax);
       cpu = hwloc_bitmap_next(bitmap, cpu)) {
    cpus.push_back(static_cast<unsigned>(cpu));
  }
  return CpuSet(std::move(cpus));
}

}  // namespace conclave::devices
