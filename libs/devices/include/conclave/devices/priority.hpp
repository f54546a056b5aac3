// How much of a busy processor a thread gets beside others.
#pragma once

#include "conclave/base/result.hpp"

namespace conclave::devices {

/// Adds `nice` (0 to 19: each step is about a tenth less than another thread gets) to that of the
/// calling thread alone; threads that it starts inherit it. An idle processor is used as before. It
/// cannot be taken back. kFailedPrecondition if the system refuses it.
base::Status lower_this_thread(int nice);

/// From here on the calling thread, and those that it starts, let whoever runs on a processor go on
/// for its slice when they wake up (SCHED_BATCH). Their share of the processor stays the same, and
/// an idle one they get at once. kFailedPrecondition if the system refuses it.
base::Status wake_without_preempting();

}  // namespace conclave::devices
