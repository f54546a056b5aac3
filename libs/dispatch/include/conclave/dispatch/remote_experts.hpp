// The experts of a model that other processes, or other parts of this one, host: sends the pairs of
// a layer to their workers, each row once a worker, and hands the outputs back in the caller's
// order. What a pair computes does not depend on which worker computes it, so neither placement nor
// a second try shows in the result (promise 1).
//
// It does not decide where experts live (the scheduler does) and owns no thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/expert_backend.hpp"
#include "conclave/model/experts.hpp"
#include "conclave/model/pair_order.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/common.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::dispatch {

struct DispatchSettings {
  std::uint32_t call_timeout_ms = 10'000;
  std::uint32_t reload_wait_ms = 30'000;

  /// See config::bind.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("call-timeout-ms", call_timeout_ms, 10u, 600'000u,
      "Longest wait for one answer of a worker before its pairs go elsewhere");
    v("reload-wait-ms", reload_wait_ms, 0u, 3'600'000u,
      "Longest wait for an expert that no worker has ready, before its requests fail");
  }
};

/// run(), maintain() and the destructor on one thread (the engine's), which is also the client's;
/// the others on any.
class RemoteExperts final : public model::ExpertBackend {
 public:
  /// `forms` has one entry a layer (model::row_forms). Everything borrowed must outlive it.
  RemoteExperts(const model::ModelConfig& config, std::vector<model::RowForms> forms,
                const kernels::Compute& compute, fabric::CallClient& client,
                const DispatchSettings& settings, telemetry::Metrics& metrics,
                telemetry::Logger log);
  ~RemoteExperts() override;

  /// A newer table; older ones, and those of another shape, are dropped. Takes effect at the next
  /// run() or maintain(), or while one waits: it is woken.
  void update(std::shared_ptr<const wire::RoutingTable> table);

  /// The epoch of the table in use; 0: none yet.
  [[nodiscard]] std::uint64_t epoch() const { return epoch_.load(std::memory_order_relaxed); }

  /// Ends a run() that waits, and every later one, with kCancelled: for whoever must not wait as
  /// long as reload_wait_ms for a thread that does.
  void stop();

  /// Applies the newest table and lets links make progress, until `until`, a link's news or
  /// CallClient::wake. For when there is nothing to run.
  void maintain(std::chrono::steady_clock::time_point until);

  /// Ok if every expert has a worker with a link that is up, as far as run() and maintain() have
  /// heard; kUnavailable says what is missing.
  [[nodiscard]] base::Status reachable() const;

  /// What the calls of the next runs carry, for those who follow a request through the processes.
  void trace(const wire::TraceContext& trace) { trace_ = trace; }

  /// kUnavailable: for reload_wait_ms no reachable worker computed some expert; kInvalidArgument as
  /// model::PairOrder; kInternal: a worker refuses calls that are correct; kCancelled: stop().
  base::Status run(std::uint32_t layer, const float* x, std::size_t rows,
                   std::span<const model::ExpertPair> pairs,
                   std::span<const float*> outputs) override;

 private:
  using Clock = std::chrono::steady_clock;

  struct Worker {
    wire::WorkerEndpoint endpoint;
    fabric::DataLinkId link = 0;
    Clock::time_point avoid_until{};     // it failed or refused just now
    std::vector<std::uint32_t> experts;  // of the call that is being built or under way
    std::size_t load = 0;                // cost of those
    fabric::CallId call = 0;             // 0: none under way
  };

  // The layer at hand.
  struct Run {
    std::uint32_t layer = 0;
    std::size_t rows = 0;
    kernels::RowsView x;
    std::vector<std::uint32_t> waiting;  // experts without an answer and without a call
    std::size_t under_way = 0;           // calls
    std::size_t missing = 0;             // experts without an answer
    bool stalled = false;                // at some time nobody could be asked
    std::string refusal;                 // the last one, for people
  };

  void apply_table();
  void connect_workers(const wire::RoutingTable& table);
  void note_reachability();
  void start(std::uint32_t layer, const float* x, std::size_t rows);
  base::Status assign_and_send();
  base::Status send(Worker& worker);
  wire::ExpertCall describe(const Worker& worker);
  void fill(const Worker& worker, const wire::ExpertCall& call, std::span<std::byte> payload);
  base::Status take(const fabric::CallEvent& event);
  base::Status answered(Worker& worker, const fabric::CallEvent& event);
  void give_back(Worker& worker, Clock::duration avoid);
  base::Status wait_for_answers(Clock::time_point give_up);
  void abandon();
  void release_replies();
  [[nodiscard]] base::Error nobody_computes() const;
  Worker* worker_of(fabric::CallId call);
  [[nodiscard]] std::string whom_we_miss() const;

  model::ModelConfig config_;
  std::vector<model::RowForms> forms_;
  kernels::Compute compute_;
  fabric::CallClient& client_;
  DispatchSettings settings_;
  telemetry::Logger log_;
  telemetry::Counter& calls_;
  telemetry::Counter& pairs_sent_;
  telemetry::Counter& resends_;
  telemetry::Counter& stalls_;

  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<bool> stopped_{false};
  mutable std::mutex mutex_;  // guards the two below
  std::shared_ptr<const wire::RoutingTable> next_;
  base::Status reachable_;

  std::shared_ptr<const wire::RoutingTable> table_;
  std::uint64_t model_key_ = 0;
  std::vector<Worker> workers_;              // as table_->workers
  std::vector<fabric::DataLinkId> parting_;  // of workers that are gone, while replies_ point there

  wire::TraceContext trace_;

  // Room for one run, reused.
  Run run_;
  model::PairOrder order_;
  kernels::QuantizedRows quantized_;
  std::vector<const float*> sorted_outputs_;  // of order_.sorted()
  std::vector<std::uint32_t> row_at_;         // row of the step -> row of the call
  std::vector<std::uint32_t> call_rows_;      // row of the call -> row of the step
  std::vector<fabric::CallId> replies_;       // whose payloads the last outputs point into
};

}  // namespace conclave::dispatch
