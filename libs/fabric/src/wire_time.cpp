#include "wire_time.hpp"

#include <algorithm>

namespace conclave::fabric {

using std::chrono::nanoseconds;

namespace {

/// Deadlines are minutes at most; what is beyond a year is none. It keeps sums from overflowing.
constexpr nanoseconds kFarthest = std::chrono::hours(24 * 365);

}  // namespace

std::int64_t WireTime::to_wire(Time deadline) const {
  if (!wall_clock_) return 0;
  const auto left = std::max<Time::duration>(deadline.time_since_epoch(), Time::duration(0)) -
                    Time::clock::now().time_since_epoch();
  if (left > kFarthest) return 0;
  return (wall_clock_().time_since_epoch() + left).count();
}

WireTime::Time WireTime::from_wire(std::int64_t deadline_unix_ns) const {
  if (!wall_clock_ || deadline_unix_ns <= 0) return Time::max();
  const nanoseconds now = wall_clock_().time_since_epoch();
  const nanoseconds left = nanoseconds(deadline_unix_ns) - now;  // both are positive: no overflow
  if (left > kFarthest) return Time::max();
  return Time::clock::now() + std::max(left, -kFarthest);
}

}  // namespace conclave::fabric
