// For tests: a worker in a process of its own, which can be killed, frozen and started again.
#pragma once

#include <sys/types.h>

#include <string>

#include "conclave/fabric/call_client.hpp"
#include "descriptor.hpp"

namespace conclave::fabric::testing {

/// Starts and stops workers on behalf of the test from a process without threads, which alone may
/// fork. Make it before anything that starts a thread.
class WorkerProcess {
 public:
  WorkerProcess();
  ~WorkerProcess();
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  /// A worker with the keys in this directory at this address; returns the address with the real
  /// port. It answers every call as compute_and_answer does, but those of layer kSilentLayer never.
  std::string start(const std::string& keys, const std::string& address,
                    const DataSettings& settings);
  void signal(int number) const;
  /// SIGKILL, and waits until it is gone.
  void kill();

  static constexpr std::uint32_t kSilentLayer = 13;

 private:
  Descriptor channel_;
  pid_t starter_ = -1;
  pid_t worker_ = -1;
};

}  // namespace conclave::fabric::testing
