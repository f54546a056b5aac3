// Runs what takes long and reads no files (those are the Registrar's), one after the other, on a
// thread of its own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "conclave/base/result.hpp"

namespace conclave::registry {

class JobThread {
 public:
  /// Jobs that wait. An operator asks for one at a time.
  static constexpr std::size_t kWaitingMax = 16;

  /// Called once. `go_on` becomes false when the process ends: the job should, too.
  using Job = std::function<void(const std::function<bool()>& go_on)>;

  JobThread();
  /// As stop().
  ~JobThread() { stop(); }
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  /// Any thread. kOverloaded: kWaitingMax wait; kCancelled: it was stopped.
  base::Status run(Job job);

  /// Waits for the job in progress; those that wait are run, and told at once not to go on.
  void stop();

 private:
  void work();

  std::mutex mutex_;  // guards what follows
  std::condition_variable wanted_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::registry
