// How much of a busy processor a thread gets beside others.
#pragma once

#include "conclave/base/result.hpp"

namespace conclave::devices {

/// Adds `nice` (0 to 19: each step is about a tenth less than another thread gets) to that of the
/// calling thread alone; threads that it starts inherit it. An idle processor is used as before. It
/// cannot be taken back. kFailedPrecondition if the system refuses it.
base::Status lower_this_thread(int nice);

}  // namespace conclave::devices
