#include "conclave/devices/machine.hpp"

#include <algorithm>
#include <set>

#include "conclave/devices/memory_limit.hpp"
#include "topology.hpp"

namespace conclave::devices {
namespace {

hwloc_obj_t next(const Topology& topology, hwloc_obj_type_t type, hwloc_obj_t previous) {
  return hwloc_get_next_obj_by_type(topology.get(), type, previous);
}

// The package is the ancestor; memory hangs beside the tree, so nodes are found by processors.
void add_cores(const Topology& topology, hwloc_obj_type_t type, Machine& machine) {
  std::set<unsigned> packages;
  for (hwloc_obj_t core = next(topology, type, nullptr); core != nullptr;
       core = next(topology, type, core)) {
    Core found;
    found.cpus = to_cpu_set(core->cpuset);
    if (found.cpus.empty()) continue;
    const hwloc_obj_t package =
        hwloc_get_ancestor_obj_by_type(topology.get(), HWLOC_OBJ_PACKAGE, core);
    if (package != nullptr) found.package = package->os_index;
    for (const NumaNode& node : machine.numa_nodes) {
      if (node.cpus.contains(found.cpus.cpus().front())) found.numa_node = node.index;
    }
    packages.insert(found.package);
    machine.cores.push_back(std::move(found));
  }
  machine.packages = std::max<std::size_t>(packages.size(), 1);
}

void add_numa_nodes(const Topology& topology, Machine& machine) {
  for (hwloc_obj_t node = next(topology, HWLOC_OBJ_NUMANODE, nullptr); node != nullptr;
       node = next(topology, HWLOC_OBJ_NUMANODE, node)) {
    machine.numa_nodes.push_back(
        {node->os_index, to_cpu_set(node->cpuset), node->attr->numanode.local_memory});
  }
}

}  // namespace

base::Result<Machine> discover() {
  CONCLAVE_TRY(const Topology topology, load_topology(View::kBound));
  Machine machine;
  machine.cpus = to_cpu_set(hwloc_get_root_obj(topology.get())->cpuset);
  if (machine.cpus.empty()) {
    return base::fail(base::ErrorCode::kUnavailable, "the system names no processor to use");
  }
  add_numa_nodes(topology, machine);
  add_cores(topology, HWLOC_OBJ_CORE, machine);
  // A system that does not tell of cores: each processor counts as one.
  if (machine.cores.empty()) add_cores(topology, HWLOC_OBJ_PU, machine);
  machine.memory_bytes = hwloc_get_root_obj(topology.get())->total_memory;
  const auto limit = cgroup_memory_limit();
  machine.memory_limit_bytes = std::min(machine.memory_bytes, limit.value_or(~std::uint64_t{0}));
  return machine;
}

}  // namespace conclave::devices
