// The versions that this router has open: an engine, and so a thread, for each, so that one that is
// being loaded, or waits for an expert, keeps no other back. They share the threads that compute,
// in turns.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "conclave/telemetry/log.hpp"
#include "conclave/wire/placement.hpp"
#include "inference_engine.hpp"

namespace conclave::router {

/// Any thread. Has as many engines as routing tables, at most wire::kVersionsMax, and those that
/// are being closed.
class EngineSet {
 public:
  using Make = std::function<base::Result<std::unique_ptr<InferenceEngine>>()>;

  /// Throws std::system_error if the system gives no thread.
  EngineSet(Make make, telemetry::Logger log);
  ~EngineSet() { stop(); }
  EngineSet(const EngineSet&) = delete;
  EngineSet& operator=(const EngineSet&) = delete;

  /// The newest tables, all of one epoch; not empty. A version that has none is closed: what runs
  /// of it ends with kUnavailable.
  void route(std::vector<wire::RoutingTable> tables);

  struct Found {
    std::shared_ptr<InferenceEngine> engine;
    std::shared_ptr<const ServedModel> model;
  };
  /// `name` alone or with ":version", `version` 0: whichever is served. kUnavailable: none is, or
  /// not this version, or it is being loaded; kNotFound: other models are.
  [[nodiscard]] base::Result<Found> find(const std::string& name, std::uint32_t version) const;

  /// Ok if sequences of some version would run now.
  [[nodiscard]] base::Status ready() const;
  /// Of the newest tables that all engines use; 0: none yet.
  [[nodiscard]] std::uint64_t epoch() const;
  /// What is open, for the scheduler: without versions that are leaving and compute nothing.
  [[nodiscard]] std::vector<wire::HostedModel> open() const;
  /// Backbones that are not what was registered.
  [[nodiscard]] std::vector<wire::RefusedExpert> refused() const;
  /// Of all versions; totals also of those that were closed.
  [[nodiscard]] engine::BatcherStats stats() const;
  /// What keys and values of the open versions may still take, in bytes.
  [[nodiscard]] std::uint64_t promised_bytes(const engine::BatcherOptions& options) const;

  /// Ends all engines; nothing more is delivered.
  void stop();

 private:
  struct Entry {
    wire::ModelVersion version;
    std::shared_ptr<InferenceEngine> engine;
    bool leaving = false;
  };

  [[nodiscard]] std::shared_ptr<InferenceEngine> take(const wire::ModelVersion& version);
  void reap();

  const Make make_;
  const telemetry::Logger log_;

  mutable std::mutex mutex_;  // guards all that follows
  std::condition_variable retired_changed_;
  std::vector<Entry> entries_;  // in the order of the tables
  std::uint64_t tables_epoch_ = 0;
  mutable std::uint64_t applied_ = 0;
  std::vector<std::shared_ptr<InferenceEngine>> retired_;  // that are being closed
  engine::BatcherStats past_;                              // totals of those that are gone
  bool stop_ = false;

  std::thread reaper_;  // last: it uses everything above
};

}  // namespace conclave::router
