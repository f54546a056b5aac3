// Time, chance and processes of a simulation: one thread, events in the order of their time, and
// nothing that is not a function of the seed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <utility>
#include <vector>

namespace conclave::sim {

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;
using Action = std::function<void()>;

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

class Loop {
 public:
  explicit Loop(std::uint64_t seed) : random_(seed) {}

  [[nodiscard]] Time now() const { return now_; }
  /// Since the simulation began.
  [[nodiscard]] Duration age() const { return now_ - kStart; }
  void in(Duration wait, Action action) { at(now_ + wait, std::move(action)); }
  void at(Time time, Action action) {
    events_.push({std::max(time, now_), ++posted_, std::move(action)});
  }
  void run_until(Time end) {
    while (!events_.empty() && events_.top().time <= end) {
      now_ = events_.top().time;
      Action action = std::move(const_cast<Event&>(events_.top()).action);
      events_.pop();
      action();
    }
    now_ = end;
  }

  [[nodiscard]] bool chance(double probability) {
    return static_cast<double>(random_() >> 11) * 0x1p-53 < probability;
  }
  /// From 0 to `most`.
  [[nodiscard]] std::uint32_t upto(std::uint32_t most) {
    return static_cast<std::uint32_t>(random_() % (std::uint64_t{most} + 1));
  }
  [[nodiscard]] Duration between(Duration least, Duration most) {
    return least + Duration(static_cast<Duration::rep>(
                       random_() % static_cast<std::uint64_t>((most - least).count() + 1)));
  }

  static constexpr Time kStart{std::chrono::hours(1)};

 private:
  struct Event {
    Time time;
    std::uint64_t order = 0;
    Action action;
    bool operator<(const Event& other) const {
      return time != other.time ? time > other.time : order > other.order;
    }
  };

  Time now_ = kStart;
  std::uint64_t posted_ = 0;
  std::mt19937_64 random_;
  std::priority_queue<Event> events_;
};

/// A process that can be killed, started again, stopped and continued. What was to happen in a life
/// that is over does not happen; what was to happen while it is stopped happens when it goes on.
class Process {
 public:
  explicit Process(Loop& loop) : loop_(loop) {}
  virtual ~Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] bool is_alive() const { return alive_; }
  [[nodiscard]] bool is_stopped() const { return stopped_; }
  [[nodiscard]] std::uint64_t life() const { return life_; }

  void stop() { stopped_ = true; }
  void go_on() {
    stopped_ = false;
    for (const auto& [life, action] : std::exchange(backlog_, {})) run(life, action);
  }

  void run(std::uint64_t life, const Action& action) {
    if (!alive_ || life != life_) return;
    if (stopped_) {
      backlog_.emplace_back(life, action);
    } else {
      action();
    }
  }
  void after(Duration wait, Action action) {
    loop_.in(wait, [this, life = life_, action = std::move(action)] { run(life, action); });
  }

 protected:
  void begin_life() {
    alive_ = true;
    ++life_;
  }
  void end_life() {
    alive_ = false;
    stopped_ = false;
    ++life_;
    backlog_.clear();
  }
  Loop& loop_;

 private:
  bool alive_ = false;
  bool stopped_ = false;
  std::uint64_t life_ = 0;
  std::vector<std::pair<std::uint64_t, Action>> backlog_;
};

}  // namespace conclave::sim
