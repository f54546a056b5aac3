// Reads files that are to be registered, one after the other, on a thread of its own, so that a
// file of hundreds of gigabytes delays nobody who only asks. Bounded: requests_max files wait.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "conclave/base/result.hpp"
#include "conclave/catalog/scan.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/wire/registry.hpp"

namespace conclave::registry {

class Registrar {
 public:
  /// Files that wait to be read: an operator registers a handful.
  static constexpr std::size_t kWaitingMax = 64;

  using Done = std::function<void(base::Result<catalog::ModelScan>)>;

  explicit Registrar(telemetry::Logger log);
  /// Ends the scan in progress; those that wait hear kCancelled.
  ~Registrar();
  Registrar(const Registrar&) = delete;
  Registrar& operator=(const Registrar&) = delete;

  /// `done` is called on the registrar's thread. kOverloaded: kWaitingMax wait.
  base::Status scan(wire::RegisterModel request, Done done);

 private:
  struct Job {
    wire::RegisterModel request;
    Done done;
  };

  void work();
  base::Result<catalog::ModelScan> read(const wire::RegisterModel& request);

  telemetry::Logger log_;
  std::mutex mutex_;  // guards jobs_ and stop_
  std::condition_variable wanted_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::registry
