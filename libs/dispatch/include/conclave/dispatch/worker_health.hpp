// What a router knows of one worker: whether it answers, how fast, and how much it still has to do.
// Knows no sockets and no clock of its own.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "conclave/dispatch/latency_book.hpp"

namespace conclave::dispatch {

/// The cost of a call, in rows: reading an expert's weights takes as long as computing four rows of
/// it (36 GB/s and 276 GFLOP/s a core, Q8_0, by kernels_bench).
constexpr std::size_t units_of(std::size_t experts, std::size_t pairs) {
  return 4 * experts + pairs;
}

/// Whom to ask first; the order of the enumerators is the order of preference.
enum class Standing : std::uint8_t {
  kWell,
  kSuspect,  // did not answer in time, or refused just now
  kDead,     // missed several in a row, or its link is down
};

/// An answer, as the router saw it and as the worker tells.
struct AnswerTimes {
  std::size_t units = 0;
  std::uint32_t pairs = 0;
  std::chrono::nanoseconds took{};     // from sending to having it
  std::chrono::nanoseconds queue{};    // the worker's word; counts up to `took`
  std::chrono::nanoseconds compute{};  // the same, of the merged batch
  std::uint32_t batch_pairs = 0;       // pairs of that batch, these included; 0: unknown
};

struct HealthOptions {
  using Duration = std::chrono::nanoseconds;
  Duration slow_start = std::chrono::seconds(1);
  Duration pause = std::chrono::milliseconds(20);   // after a refusal
  Duration retry = std::chrono::milliseconds(100);  // first wait before a suspect is tried again,
  Duration retry_max = std::chrono::seconds(5);     // doubling up to this
  std::uint32_t misses_to_death = 3;                // in a row
  Duration silence_to_death = std::chrono::seconds(1);  // since the first miss
};

/// One thread.
///
/// A worker whose call missed its deadline is suspect until it answers anything, be it late, or its
/// link comes anew; if it owes no answer (any more), until some time has passed. Whoever comes back
/// starts slowly: it looks eight times as busy as it is, and less so until slow_start is over.
class WorkerHealth {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit WorkerHealth(const HealthOptions& options) : options_(options) {}

  void link_up(TimePoint now);
  void link_down();
  [[nodiscard]] bool is_up() const { return up_; }

  void sent(std::size_t units) { outstanding_ += units; }
  void answered(const AnswerTimes& times, TimePoint now);
  /// No answer will come to a call: it failed, or was forgotten.
  void ended(std::size_t units) { outstanding_ -= units < outstanding_ ? units : outstanding_; }
  /// A deadline passed; the answer may still come.
  void missed(TimePoint now);
  /// It answered that it will not (also ended()), or takes no call now.
  void refused(TimePoint now) { pause_until_ = now + options_.pause; }

  [[nodiscard]] Standing standing(TimePoint now) const;
  /// True for a while after a refusal: not to be asked at all.
  [[nodiscard]] bool pauses(TimePoint now) const { return now < pause_until_; }
  [[nodiscard]] TimePoint pause_until() const { return pause_until_; }

  /// Units that it was sent and has not answered.
  [[nodiscard]] std::size_t outstanding() const { return outstanding_; }
  /// Microseconds; 0: not known yet. What was measured long ago fades, so that whoever was slow is
  /// tried again some time.
  [[nodiscard]] double us_per_unit(TimePoint now) const { return us_per_unit_ * freshness(now); }
  [[nodiscard]] double overhead_us(TimePoint now) const { return overhead_us_ * freshness(now); }
  /// 8 when it has just come (back), 1 when it has long been there.
  [[nodiscard]] double reluctance(TimePoint now) const;
  [[nodiscard]] const LatencyBook& latencies() const { return latencies_; }

 private:
  [[nodiscard]] double freshness(TimePoint now) const;

  HealthOptions options_;
  bool up_ = false;
  TimePoint since_{};  // when it came (back)
  TimePoint pause_until_{};
  std::uint32_t misses_ = 0;  // since its last answer
  TimePoint suspect_since_{};
  TimePoint retry_at_{};
  std::size_t outstanding_ = 0;
  double us_per_unit_ = 0.0;  // moving averages
  double overhead_us_ = 0.0;  // of what is not computing: the way there and back, and queues
  std::optional<TimePoint> measured_at_;
  LatencyBook latencies_;
};

}  // namespace conclave::dispatch
