// hwloc's handles, owned.
#pragma once

#include <hwloc.h>

#include <memory>

#include "conclave/base/result.hpp"
#include "conclave/devices/cpu_set.hpp"

namespace conclave::devices {

struct TopologyDelete {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, TopologyDelete>;

struct BitmapDelete {
  void operator()(hwloc_bitmap_s* bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, BitmapDelete>;

enum class View : unsigned char {
  kAllowed,  // what the control groups leave to the process
  kBound,    // of that, where its threads are bound to run (taskset)
};

/// The topology of this machine as far as `view` goes. kUnavailable.
base::Result<Topology> load_topology(View view);

/// Empty (null) if there is no memory for it.
Bitmap to_bitmap(const CpuSet& cpus);

/// Processors up to kCpuMax.
CpuSet to_cpu_set(hwloc_const_bitmap_t bitmap);

}  // namespace conclave::devices
