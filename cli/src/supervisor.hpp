// Keeps a set of child processes running: starts them, reads what they log, starts again those that
// fall, and ends them in order. It knows nothing of what they do.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "descriptor.hpp"

namespace conclave::cli {

struct ChildSpec {
  std::string name;
  std::vector<std::string> arguments;  // the program first, as a path
  int stage = 0;                       // ended in rising order: the next stage when all are gone
  std::vector<std::string> environment{};  // "NAME=value", beside that of this process
  int end_signal = SIGTERM;                // what asks it to end
};

/// One thread, one at a time in a process. From its making to its end SIGCHLD, SIGTERM and, unless
/// they are ignored, SIGINT and SIGHUP are blocked and read by it: other threads are started after
/// it, or they would get them.
class Supervisor {
 public:
  /// All are called in run()'s thread, and must not block for long: nobody reads the children's
  /// output meanwhile.
  struct Hooks {
    /// A line of a child's standard error or output, without its end.
    std::function<void(const std::string& name, std::string_view line)> line;
    /// A child ended unasked; it is started again after `pause`.
    std::function<void(const std::string& name, const std::string& how,
                       std::chrono::milliseconds pause)>
        fell;
    /// The end begins: no child is started any more.
    std::function<void()> ending;
    /// At least five times a second until then.
    std::function<void()> tick;
  };

  Supervisor(std::vector<ChildSpec> children, Hooks hooks);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  /// Starts all, and returns when all have ended: after a signal or end(), by its end_signal to
  /// each of one stage after the other, SIGKILL to what is left of it after `patience`; a signal
  /// while that goes on is SIGKILL to all. Each child leads a process group that the terminal does
  /// not signal and that ends with it; it gets its end_signal if this process dies.
  ///
  /// Until settle() a child that will not run ends all with kUnavailable: its program cannot be
  /// started, it exits with 2 (its command line is wrong), or it falls kFallsMax times in a row.
  base::Status run(std::chrono::milliseconds patience);

  /// In a hook: everything works, so that from now on a child that falls is started again for ever,
  /// after pauses of at most five seconds.
  void settle() { settled_ = true; }
  /// In a hook: ends all.
  void end();

  /// Process id of a child that runs; 0: none. In a hook.
  [[nodiscard]] pid_t pid(std::string_view name) const;

  /// Enough for a port that is freed late, few enough that the reason is still on the screen.
  static constexpr int kFallsMax = 5;

 private:
  using Clock = std::chrono::steady_clock;

  struct Child {
    ChildSpec spec;
    pid_t pid = 0;
    Descriptor output;    // the read end of its pipe
    std::string partial;  // of a line
    Clock::time_point started{};
    Clock::time_point start_at{};  // when it does not run
    int falls = 0;                 // in a row
  };

  void start_due(Clock::time_point now);
  base::Status start(Child& child);
  [[nodiscard]] Clock::time_point next_start(Clock::time_point latest) const;
  void wait(Clock::time_point until);
  bool read_output(Child& child);
  void give_lines(Child& child);
  void drain_output(Child& child);
  void take_signals();
  void reap();
  void ended(Child& child, int status);
  void fall(Child& child, const std::string& how);
  void give_up(std::string message);
  void end_stages(Clock::time_point now);
  [[nodiscard]] int lowest_running_stage() const;

  std::vector<Child> children_;
  Hooks hooks_;
  std::chrono::milliseconds patience_{};
  sigset_t taken_{};
  sigset_t mask_before_{};
  Descriptor signals_;  // a signalfd
  base::Status result_;
  bool settled_ = false;
  bool ending_ = false;
  int stage_ending_ = -1;
  Clock::time_point kill_at_{};
};

}  // namespace conclave::cli
