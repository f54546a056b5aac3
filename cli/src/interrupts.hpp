// Ctrl-C as an event of work in progress.
#pragma once

#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>

namespace conclave::cli {

/// The exit code of a process that Ctrl-C ended at once, as shells count it: 128 and the signal.
inline constexpr int kExitInterrupted = 130;

/// While it lives SIGINT is taken by a thread of its own. Made before there are other threads; one
/// in a process.
class Interrupts {
 public:
  /// `idle` is called in that thread when Ctrl-C meets no work, or work that was asked before and
  /// does not stop; it may end the process.
  explicit Interrupts(std::function<void()> idle);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  /// Until done() a Ctrl-C asks the work to stop.
  std::stop_token begin();
  void done();

 private:
  void take();

  std::function<void()> idle_;
  std::mutex mutex_;  // guards work_ and ending_
  std::stop_source work_{std::nostopstate};
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace conclave::cli
