#include "clock.hpp"

#include <time.h>

namespace conclave::app {

std::chrono::system_clock::time_point wall_clock() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const auto since_epoch = std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  using Clock = std::chrono::system_clock;
  return Clock::time_point(std::chrono::duration_cast<Clock::duration>(since_epoch));
}

}  // namespace conclave::app
