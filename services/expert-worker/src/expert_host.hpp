// The experts that this worker hosts, and the computing of calls on them. It knows no scheduler and
// no file: experts come in loaded and verified.
#pragma once

#include <cstdint>
#include <map>
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

/// serve_next() on one thread at a time; the others on any. Experts come and go between batches;
/// what asks for numbers never waits for a batch.
class ExpertHost {
 public:
  using Calls = std::vector<fabric::IncomingCall*>;

  /// The threads of `compute` must outlive the host and are used by serve_next() only.
  explicit ExpertHost(const kernels::Compute& compute, telemetry::Tracer tracer = {})
      : compute_(compute), tracer_(std::move(tracer)) {}

  /// Takes in experts of this version from now on, too. Of one that is open, only its place
  /// changes.
  void open(const wire::ModelVersion& model, const model::ModelConfig& config);
  /// Gives up a version and all experts of it. Does nothing if it is not open.
  void close(const wire::ModelVersion& model);

  /// Errors of model::ExpertSet::insert; kFailedPrecondition: the version is not open.
  base::Status insert(const wire::ModelVersion& model, model::ExpertId id, model::Expert expert);
  void erase(const wire::ModelVersion& model, model::ExpertId id);

  /// Computes the first call of `waiting` (oldest first, not empty), together with others that want
  /// the same layer of the same version up to kMergedRowsMax rows, and answers and takes out all of
  /// these. A call that cannot be computed gets its error, the others their results: the bits of a
  /// pair do not depend on what it was computed with.
  void serve_next(Calls& waiting, fabric::CallServer& server);

  /// The experts of a version; of no layers if it is not open.
  [[nodiscard]] wire::ExpertBits ready(const wire::ModelVersion& model) const;
  /// Of all versions, as the next.
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] HostLoad load() const;
  /// Every open version, what is there of it, and how much each expert was asked for since it was
  /// opened: one moment of all.
  [[nodiscard]] std::vector<wire::HostedModel> hosted() const;

 private:
  // The sets and what describes them are guarded by mutex_, the rest by status_mutex_; that there
  // is such a version, by both.
  struct Model {
    Model(const wire::ModelVersion& version, const model::ModelConfig& config,
          const kernels::Compute& compute);

    const model::ModelConfig config;
    model::ExpertSet experts;
    wire::ModelVersion version;
    wire::ExpertBits ready;
    std::vector<std::uint64_t> pairs;  // (layer, expert), hosted now or before
  };
  using Models = std::map<std::uint64_t, std::unique_ptr<Model>>;  // by wire::model_key_of

  std::unique_lock<std::mutex> take_turn();
  [[nodiscard]] Model* find(const wire::ModelVersion& model) const;
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
  Models models_;
  Calls batch_;
  Model* of_batch_ = nullptr;
  std::vector<model::ExpertPair> pairs_;
  model::PairOrder order_;
  kernels::QuantizedRows quantized_;
  base::AlignedVector<float> floats_;
  base::AlignedVector<float> y_;

  mutable std::mutex status_mutex_;  // guards all that follows; held for copies only
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;
  HostLoad load_;
};

}  // namespace conclave::expert_worker
