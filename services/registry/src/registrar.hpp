// Reads files that are to be registered, one after the other, on a thread of its own, so that a
// file of hundreds of gigabytes delays nobody who only asks. Bounded: kWaitingMax files wait.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "conclave/artifacts/location.hpp"
#include "conclave/artifacts/store.hpp"
#include "conclave/base/result.hpp"
#include "conclave/catalog/scan.hpp"
#include "conclave/catalog/sum_store.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"

namespace conclave::registry {

class Registrar {
 public:
  /// Files that wait to be read: an operator registers a handful.
  static constexpr std::size_t kWaitingMax = 64;

  /// A file to read as catalog::scan_model does, wherever it is. Both functions are called on the
  /// registrar's thread; what they use must outlive stop().
  struct Job {
    artifacts::Location where;
    std::string name;
    bool fresh = false;  // read it even if it has not changed since it was summed
    std::function<void(unsigned percent)> progress;  // may be null
    std::function<void(base::Result<catalog::ModelScan>)> done;
  };
  using Clock = std::function<std::chrono::steady_clock::time_point()>;

  /// `known`: where sums are kept; null: files are summed whenever they are registered. `store`:
  /// brings those that are elsewhere; it must outlive the registrar.
  Registrar(artifacts::Store& store, std::unique_ptr<const catalog::SumStore> known,
            telemetry::Metrics& metrics, Clock clock, telemetry::Logger log);
  /// As stop().
  ~Registrar() { stop(); }
  Registrar(const Registrar&) = delete;
  Registrar& operator=(const Registrar&) = delete;

  /// kOverloaded: kWaitingMax wait; `done` is not called then.
  base::Status scan(Job job);

  /// Ends the scan in progress; it and those that wait hear kCancelled, and so does what comes
  /// after.
  void stop();

  /// How much of the file in progress is read, in percent; 0 if there is none. Any thread.
  [[nodiscard]] unsigned percent() const { return percent_.load(std::memory_order_relaxed); }

 private:
  void work();
  base::Result<catalog::ModelScan> read(const Job& job);
  base::Result<catalog::ModelScan> read_remote(const Job& job,
                                               const catalog::ScanProgress& progress);
  [[nodiscard]] bool is_stopping();

  artifacts::Store& store_;
  const std::unique_ptr<const catalog::SumStore> known_;
  Clock clock_;
  telemetry::Logger log_;
  telemetry::Counter& bytes_;
  telemetry::Histogram& seconds_;
  std::atomic<unsigned> percent_{0};
  std::mutex mutex_;  // guards jobs_ and stop_
  std::condition_variable wanted_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::registry
