#include "conclave/dispatch/worker_health.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace conclave::dispatch {

namespace {

// Weight of the newest answer: sixteen answers, one step of a small model, forget what was before.
constexpr double kNewest = 1.0 / 8;
constexpr double kReluctanceMax = 8.0;

double us(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e3; }

}  // namespace

void WorkerHealth::link_up(TimePoint now) {
  if (std::exchange(up_, true)) return;
  since_ = now;
  misses_ = 0;
  pause_until_ = {};
}

void WorkerHealth::link_down() { up_ = false; }

void WorkerHealth::answered(const AnswerTimes& times, TimePoint now) {
  ended(times.units);
  if (misses_ > 0) since_ = now;
  misses_ = 0;
  latencies_.add(times.units, times.took);
  if (times.units == 0) return;

  // Of a merged batch, this call's part; without the worker's word all of the time is computing.
  const auto queue = std::min(times.queue, times.took);
  const auto compute = std::min(times.compute, times.took - queue);
  const double share =
      times.batch_pairs > times.pairs ? static_cast<double>(times.pairs) / times.batch_pairs : 1.0;
  const bool says = compute.count() > 0;
  const double per_unit =
      (says ? us(compute) * share : us(times.took)) / static_cast<double>(times.units);
  const double overhead = says ? us(times.took - compute) : 0.0;
  const double weight = std::exchange(measured_at_, now) ? kNewest : 1.0;
  us_per_unit_ += weight * (per_unit - us_per_unit_);
  overhead_us_ += weight * (overhead - overhead_us_);
}

double WorkerHealth::freshness(TimePoint now) const {
  if (!measured_at_ || outstanding_ > 0) return 1.0;  // it is being tried
  const double seconds = us(now - *measured_at_) / 1e6;
  return seconds <= 1.0 ? 1.0 : std::exp2(1.0 - seconds);
}

void WorkerHealth::missed(TimePoint now) {
  if (misses_ == 0) suspect_since_ = now;
  const std::uint32_t doublings = std::min(misses_, 16u);
  ++misses_;
  retry_at_ = now + std::min(options_.retry * (1u << doublings), options_.retry_max);
}

Standing WorkerHealth::standing(TimePoint now) const {
  if (!up_) return Standing::kDead;
  if (misses_ == 0) return Standing::kWell;
  // What it still owes will tell; otherwise somebody must try.
  if (outstanding_ == 0 && now >= retry_at_) return Standing::kWell;
  const bool is_dead =
      misses_ >= options_.misses_to_death || now - suspect_since_ >= options_.silence_to_death;
  return is_dead ? Standing::kDead : Standing::kSuspect;
}

double WorkerHealth::reluctance(TimePoint now) const {
  const auto age = now - since_;
  if (age >= options_.slow_start) return 1.0;
  const double left = 1.0 - us(age) / us(options_.slow_start);
  return 1.0 + (kReluctanceMax - 1.0) * std::min(1.0, left);
}

}  // namespace conclave::dispatch
