// Keeps a set of child processes running: starts them, reads what they log, starts again those that
// fall, and ends them in order. It knows nothing of what they do.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::cli {

struct ChildSpec {
  std::string name;
  std::vector<std::string> arguments;  // the program first
  int stage = 0;                       // ended in rising order: the next stage when all are gone
};

/// One thread; one supervisor a process (it owns SIGCHLD, SIGINT and SIGTERM while it runs).
class Supervisor {
 public:
  struct Hooks {
    /// A line of a child's standard error or output, without its end.
    std::function<void(const std::string& name, std::string_view line)> line;
    /// A child ended unasked; it is started again after `pause`.
    std::function<void(const std::string& name, const std::string& how,
                       std::chrono::milliseconds pause)>
        fell;
    /// Called about five times a second while nothing is ending. False: end everything.
    std::function<bool()> tick;
  };

  Supervisor(std::vector<ChildSpec> children, Hooks hooks);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  /// Starts all and returns when all have ended, after SIGINT or SIGTERM (SIGTERM to each stage in
  /// turn, `patience` a stage, then SIGKILL; a second signal: SIGKILL at once), or when tick said
  /// so. kUnavailable: a program cannot be started.
  base::Status run(std::chrono::milliseconds patience);

  /// Process id of a child that runs; 0: none.
  [[nodiscard]] pid_t pid(std::string_view name) const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Child {
    ChildSpec spec;
    pid_t pid = 0;
    int output = -1;      // the read end of its pipe
    std::string partial;  // of a line
    Clock::time_point started{};
    Clock::time_point start_at{};  // when it has fallen
    int falls = 0;                 // in a row
  };

  base::Status open_signals();
  base::Status start(Child& child);
  base::Status start_due(Clock::time_point now);
  void wait(Clock::time_point until);
  void read_output(Child& child);
  void take_signal();
  void reap();
  void ended(Child& child, int status);
  void end_stages(Clock::time_point now);
  void kill_stage(int stage, int signal);
  [[nodiscard]] int lowest_running_stage() const;

  std::vector<Child> children_;
  Hooks hooks_;
  std::chrono::milliseconds patience_{};
  int signals_ = -1;  // signalfd
  bool ending_ = false;
  int stage_ending_ = -1;
  Clock::time_point kill_at_{};
};

}  // namespace conclave::cli
