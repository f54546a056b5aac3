// A thread for work that gives way to calls: reading and packing experts while others compute.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "conclave/telemetry/log.hpp"

namespace conclave::expert_worker {

/// One caller at a time, who waits: what the caller does itself, as with locks that calls want,
/// stays as urgent as they are.
class Aside {
 public:
  /// `nice` as devices::lower_this_thread; a system that refuses it leaves the thread as others
  /// are, and one that gives no thread has the caller do all itself; both are logged.
  Aside(int nice, telemetry::Logger log);
  ~Aside();
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

  /// Runs it there and returns when it has ended. It must not throw.
  void run(const std::function<void()>& work);

 private:
  void serve(int nice, const telemetry::Logger& log);

  std::mutex mutex_;  // guards all that follows, up to the thread
  std::condition_variable changed_;
  const std::function<void()>* work_ = nullptr;  // null: none, or it is done
  bool stop_ = false;

  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::expert_worker
