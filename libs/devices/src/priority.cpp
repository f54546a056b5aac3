#include "conclave/devices/priority.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace conclave::devices {

base::Status lower_this_thread(int nice) {
  // Linux, other than POSIX has it, keeps one for each thread.
  const auto thread = static_cast<id_t>(::gettid());
  errno = 0;
  const int now = ::getpriority(PRIO_PROCESS, thread);
  if (errno == 0 && (nice == 0 || ::setpriority(PRIO_PROCESS, thread, now + nice) == 0)) return {};
  return base::fail(base::ErrorCode::kFailedPrecondition,
                    std::string("the thread's priority stays: ") + std::strerror(errno));
}

base::Status wake_without_preempting() {
  const sched_param none{};
  if (::sched_setscheduler(0, SCHED_BATCH, &none) == 0) return {};
  return base::fail(base::ErrorCode::kFailedPrecondition,
                    std::string("the thread's policy stays: ") + std::strerror(errno));
}

}  // namespace conclave::devices
