// The experts that this worker hosts, and the computing of calls on them. It knows no scheduler and
// no file: experts come in loaded and verified.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/fabric/call_server.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/expert_set.hpp"
#include "conclave/telemetry/trace.hpp"
#include "conclave/wire/placement.hpp"

namespace conclave::expert_worker {

/// Rows computed together at most: beyond this the weights are read no less often per row
/// (engine::BatcherOptions::step_rows_max), while every caller of the batch waits longer.
inline constexpr std::size_t kMergedRowsMax = 512;

/// Counters from the start; a copy.
struct HostLoad {
  std::uint64_t calls = 0;
  std::uint64_t pairs = 0;
  std::uint64_t compute_us = 0;
  std::uint64_t queue_us = 0;      // that calls waited, their sum
  std::uint64_t merged_calls = 0;  // that were computed together with another one
};

/// What is hosted, and how much each of it was asked for: one moment of both.
struct Hosted {
  wire::ExpertBits ready;
  std::vector<std::uint64_t> pairs;  // by the bits of `ready`, from the start
};

/// serve_next() on one thread at a time; the others on any. Experts come and go between batches;
/// what asks for numbers never waits for a batch.
class ExpertHost {
 public:
  using Calls = std::vector<fabric::IncomingCall*>;

  /// The threads of `compute` must outlive the host and are used by serve_next() only.
  explicit ExpertHost(const kernels::Compute& compute, telemetry::Tracer tracer = {})
      : compute_(compute), tracer_(std::move(tracer)) {}

  /// Starts anew with no experts, for another model.
  void open(const wire::ModelVersion& model, const model::ModelConfig& config);

  /// Errors of model::ExpertSet::insert; kFailedPrecondition before open().
  base::Status insert(model::ExpertId id, model::Expert expert);
  void erase(model::ExpertId id);

  /// Computes the first call of `waiting` (oldest first, not empty), together with others that want
  /// the same layer up to kMergedRowsMax rows, and answers and takes out all of these. A call that
  /// cannot be computed gets its error, the others their results: the bits of a pair do not depend
  /// on what it was computed with.
  void serve_next(Calls& waiting, fabric::CallServer& server);

  [[nodiscard]] wire::ModelVersion model() const;
  [[nodiscard]] wire::ExpertBits ready() const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] HostLoad load() const;
  [[nodiscard]] Hosted hosted() const;

 private:
  std::unique_lock<std::mutex> take_turn();
  void publish_size();
  void take_batch(Calls& waiting);
  void refuse_bad_calls(fabric::CallServer& server);
  [[nodiscard]] base::Status check(const fabric::IncomingCall& call) const;
  base::Status run_batch();
  base::Status run_one(const fabric::IncomingCall& call);
  base::Status run_merged();
  void gather(std::size_t rows);
  void scatter();

  void record(const fabric::IncomingCall& call, const wire::ExpertReply& reply) const;

  kernels::Compute compute_;
  telemetry::Tracer tracer_;

  std::mutex turn_;   // held while one waits for the next
  std::mutex mutex_;  // guards the experts, what describes them, and the room of a batch
  std::uint64_t model_key_ = 0;
  model::ModelConfig config_;
  std::unique_ptr<model::ExpertSet> experts_;
  Calls batch_;
  std::vector<model::ExpertPair> pairs_;
  model::PairOrder order_;
  kernels::QuantizedRows quantized_;
  base::AlignedVector<float> floats_;
  base::AlignedVector<float> y_;

  mutable std::mutex status_mutex_;  // guards all that follows; held for copies only
  wire::ModelVersion model_;
  wire::ExpertBits ready_;
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
  HostLoad load_;
  std::vector<std::uint64_t> expert_pairs_;  // (layer, expert), hosted now or before
};

}  // namespace conclave::expert_worker
