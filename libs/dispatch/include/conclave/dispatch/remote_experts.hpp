// The experts of a model that other processes, or other parts of this one, host: sends the pairs of
// a layer to their workers, each row once a worker, and hands the outputs back in the caller's
// order. What a pair computes does not depend on which worker computes it, so neither placement nor
// a second try shows in the result (promise 1).
//
// It does not decide where experts live (the scheduler does) and owns no thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/dispatch/layer_dispatch.hpp"
#include "conclave/fabric/calls.hpp"
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
  std::uint32_t resend_min_ms = 10;  // above what a busy machine's own scheduling delays
  std::uint32_t resend_max_ms = 1'000;
  double hedge_percent = 2.0;
  std::uint32_t slow_start_ms = 1'000;
  std::uint32_t degrade_after_ms = 100;  // links come and go within that while tables change

  /// See config::bind.
  template <class Visitor>
  void visit(Visitor&& v) {
    v("call-timeout-ms", call_timeout_ms, 10u, 600'000u,
      "Longest wait for one answer of a worker, where no other has its experts");
    v("reload-wait-ms", reload_wait_ms, 0u, 3'600'000u,
      "Longest wait for an expert that no worker has ready, before its requests fail");
    v("resend-min-ms", resend_min_ms, 1u, 60'000u,
      "Shortest time after which a call's experts are asked of another worker; in between it is "
      "three times what 99 % of such calls take, or 20 ms or a half more than that");
    v("resend-max-ms", resend_max_ms, 1u, 600'000u, "Longest such time");
    v("hedge-percent", hedge_percent, 0.0, 100.0,
      "Calls, of all, that may be asked of a second worker when they take longer than 95 % of such "
      "calls do (0: none)");
    v("slow-start-ms", slow_start_ms, 0u, 600'000u,
      "How long a worker that came (back) is given less to do");
    v("degrade-after-ms", degrade_after_ms, 0u, 600'000u,
      "How long an expert must have no reachable worker before tokens do without it, or requests "
      "fail, if the deployment's policy is one of these");
  }

  /// For the decisions.
  [[nodiscard]] DispatchOptions options() const;
};

/// What computes, maintain() and the destructor on one thread (the engine's), which is also the
/// client's; the others on any.
class RemoteExperts final : public model::ExpertBackend {
 public:
  using Now = std::function<std::chrono::steady_clock::time_point()>;

  /// `forms` has one entry a layer (model::row_forms). Everything borrowed must outlive it.
  RemoteExperts(const model::ModelConfig& config, std::vector<model::RowForms> forms,
                const kernels::Compute& compute, fabric::Calls& client,
                const DispatchSettings& settings, telemetry::Metrics& metrics,
                telemetry::Logger log, Now now = std::chrono::steady_clock::now);
  ~RemoteExperts() override;

  /// A newer table; older ones, and those of another shape, are dropped. Takes effect at the next
  /// start(), run() or maintain(), or while one of these or finish() waits: it is woken.
  void update(std::shared_ptr<const wire::RoutingTable> table);

  /// The epoch of the table in use; 0: none yet.
  [[nodiscard]] std::uint64_t epoch() const { return epoch_.load(std::memory_order_relaxed); }

  /// Ends a run() or finish() that waits, and every later one, with kCancelled: for whoever must
  /// not wait as long as reload_wait_ms for a thread that does.
  void stop();

  /// Applies the newest table and lets links make progress, until `until`, a link's news or
  /// CallClient::wake. For when there is nothing to run.
  void maintain(std::chrono::steady_clock::time_point until);

  /// Ok if every expert has a worker with a link that is up, as far as run() and maintain() have
  /// heard, or, where tokens may do without some, every layer still has as many as a token takes;
  /// kUnavailable says what is missing.
  [[nodiscard]] base::Status reachable() const;

  /// Workers of the table whose links were up once and are down now: they ended, or the network
  /// between did, and the scheduler may hear of it before their leases run out.
  [[nodiscard]] std::vector<wire::WorkerEndpoint> lost_workers() const;

  /// What the calls of the next runs carry, for those who follow a request through the processes.
  void trace(const wire::TraceContext& trace) { trace_ = trace; }

  /// kUnavailable: for reload_wait_ms no reachable worker computed some expert, or none has it and
  /// the table's policy is to fail, or is kNextBest and absences() has risen; kInvalidArgument as
  /// model::PairOrder; kInternal: a worker refuses calls that are correct; kCancelled: stop().
  base::Status run(std::uint32_t layer, const float* x, std::size_t rows,
                   std::span<const model::ExpertPair> pairs,
                   std::span<const float*> outputs) override;

  /// A worker that is reachable is on another machine, as far as its link tells.
  [[nodiscard]] bool is_remote() const override;
  /// start() sends what it can; finish() has the errors of run().
  void start(std::size_t batch, std::uint32_t layer, const float* x, std::size_t rows,
             std::span<const model::ExpertPair> pairs) override;
  base::Status finish(std::size_t batch, std::span<const float*> outputs) override;
  void end_step() override;

  /// Of a table with kNextBest: what no worker has been reachable for, for degrade_after_ms.
  [[nodiscard]] std::span<const std::uint8_t> absent(std::uint32_t layer) const override;
  [[nodiscard]] std::uint64_t absences() const override { return absences_; }
  [[nodiscard]] std::uint64_t device_us() const override {
    return static_cast<std::uint64_t>(core_.stats().device_us);
  }

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Link {
    fabric::DataLinkId id = 0;  // 0: the address was refused
    bool was_up = false;
  };

  // A call that waits to be sent.
  struct Prepared {
    const Order* order = nullptr;
    fabric::CallId id = 0;
  };

  // The layer at hand of a micro-batch.
  struct Run {
    std::size_t batch = 0;
    std::uint32_t layer = 0;
    std::size_t rows = 0;
    kernels::RowsView x;
    std::uint64_t absences = 0;  // when its gate looked
    base::Status status;         // of what start() did
    TimePoint begin{};
    bool stalled = false;  // at some time nobody could be asked
    std::string refusal;   // the last one, for people
    model::PairOrder order;
    kernels::QuantizedRows quantized;
    std::vector<const float*> sorted_outputs;  // of order.sorted()
    std::vector<fabric::CallId> replies;       // whose payloads they point into
  };

  void apply_table();
  void connect_workers(std::shared_ptr<const wire::RoutingTable> table);
  void note_reachability();
  void note_absences();
  [[nodiscard]] base::Status go_on() const;
  base::Status begin(Run& run, std::span<const model::ExpertPair> pairs);
  base::Status send_orders();
  base::Status prepare(const Order& order, TimePoint now);
  wire::ExpertCall describe(const Order& order);
  void fill(const Order& order, const wire::ExpertCall& call, std::span<std::byte> payload);
  base::Status judge_stall(Run& run);
  base::Status wait_for_answers(const Run& run);
  base::Status take_what_came();
  base::Status take_all(std::span<const fabric::CallEvent> events);
  base::Status take(const fabric::CallEvent& event);
  base::Status answered(const fabric::CallEvent& event);
  void use(Run& run, const fabric::CallEvent& event, std::span<const AnswerPart> parts);
  void failed(const fabric::CallEvent& event);
  void link_changed(fabric::DataLinkId link, bool up);
  void count();
  void release_replies(Run& run);
  [[nodiscard]] bool is_degradable() const;
  [[nodiscard]] base::Error nobody_computes(const Run& run) const;
  [[nodiscard]] std::string name_of(std::size_t worker) const;
  [[nodiscard]] std::string whom_we_miss() const;

  model::ModelConfig config_;
  std::vector<model::RowForms> forms_;
  kernels::Compute compute_;
  fabric::Calls& client_;
  DispatchSettings settings_;
  telemetry::Logger log_;
  const Now now_;
  telemetry::Counter& calls_;
  telemetry::Counter& pairs_sent_;
  telemetry::Counter& resends_;
  telemetry::Counter& hedges_;
  telemetry::Counter& late_;
  telemetry::Counter& suspects_;
  telemetry::Counter& stalls_;
  telemetry::Histogram& layer_seconds_;

  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<bool> stopped_{false};
  mutable std::mutex mutex_;  // guards the three below
  std::shared_ptr<const wire::RoutingTable> next_;
  base::Status reachable_;
  std::vector<wire::WorkerEndpoint> lost_;

  LayerDispatch core_;
  DispatchStats counted_;  // of the core's, what the counters have
  std::uint64_t model_key_ = 0;
  std::vector<Link> links_;                  // as the table's workers
  std::vector<fabric::DataLinkId> parting_;  // of workers that are gone, while replies point there

  TimePoint changed_at_{};                   // the newest table, or news of a link
  std::vector<std::uint8_t> absent_;         // (layers, experts)
  std::vector<std::uint32_t> absent_count_;  // by layer
  std::uint64_t absences_ = 0;

  wire::TraceContext trace_;

  std::array<Run, model::kMicroBatchesMax> runs_;

  // Room for what is sent, reused.
  std::vector<ExpertWork> work_;
  std::vector<std::uint32_t> row_at_;     // row of the step -> row of the call
  std::vector<std::uint32_t> call_rows_;  // row of the call -> row of the step
  std::vector<Prepared> prepared_;
};

}  // namespace conclave::dispatch
