// Binding threads to processors. A thread started later inherits the set of the one that starts it,
// so pin the process before its thread pools are made.
#pragma once

#include "conclave/base/result.hpp"
#include "conclave/devices/cpu_set.hpp"

namespace conclave::devices {

/// Only the calling thread. kInvalidArgument for an empty set; kFailedPrecondition if the system
/// refuses it (processors that do not exist or are not allowed).
base::Status pin_this_thread(const CpuSet& cpus);

/// Every thread that the process has now. Errors as above.
base::Status pin_this_process(const CpuSet& cpus);

/// Where the calling thread may run now.
base::Result<CpuSet> this_thread_cpus();

}  // namespace conclave::devices
