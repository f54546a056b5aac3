// What this process may use of the machine: processors, memory and how they hang together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/devices/cpu_set.hpp"

namespace conclave::devices {

struct Core {
  CpuSet cpus;  // its hardware threads, as far as the process may use them
  unsigned package = 0;
  unsigned numa_node = 0;
};

struct NumaNode {
  unsigned index = 0;  // the operating system's number
  CpuSet cpus;
  std::uint64_t memory_bytes = 0;  // all of the node's, not what is free
};

/// A snapshot: processors may be taken away (cgroups, hot-unplug) while the process runs.
struct Machine {
  CpuSet cpus;  // at least one; control groups and the threads' binding (taskset) limit it
  std::vector<Core> cores;
  std::size_t packages = 0;  // sockets with at least one allowed processor
  std::vector<NumaNode> numa_nodes;
  std::uint64_t memory_bytes = 0;        // of the machine
  std::uint64_t memory_limit_bytes = 0;  // of this process: the least of the machine's and cgroups'
};

/// Reads the topology (some milliseconds). kUnavailable if the system does not tell.
base::Result<Machine> discover();

}  // namespace conclave::devices
