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
#include "conclave/wire/placement.hpp"

namespace conclave::expert_worker {

/// Rows computed together at most: beyond this the weights are read no less often per row
/// (engine::kStepRowsMax), while every caller of the batch waits longer.
inline constexpr std::size_t kMergedRowsMax = 512;

/// Counters from the start; a copy.
struct HostLoad {
  std::uint64_t calls = 0;
  std::uint64_t pairs = 0;
  std::uint64_t compute_us = 0;
  std::uint64_t merged_calls = 0;  // that were computed together with another one
};

/// Any thread; calls are computed one batch at a time, and experts come and go between batches.
class ExpertHost {
 public:
  /// `compute` must outlive the host and is used by serve() only.
  explicit ExpertHost(const kernels::Compute& compute) : compute_(compute) {}

  /// Starts anew with no experts, for another model.
  void open(const wire::ModelVersion& model, const model::ModelConfig& config);

  /// Errors of model::ExpertSet::insert; kFailedPrecondition before open().
  base::Status insert(model::ExpertId id, model::Expert expert);
  void erase(model::ExpertId id);

  /// Computes and answers all calls; those that want the same layer together, up to kMergedRowsMax
  /// rows. A call that cannot be computed gets its error, the others their results.
  void serve(std::span<fabric::IncomingCall* const> calls, fabric::CallServer& server);

  [[nodiscard]] wire::ModelVersion model() const;
  [[nodiscard]] wire::ExpertBits ready() const;
  [[nodiscard]] std::size_t bytes() const;
  [[nodiscard]] HostLoad load() const;

 private:
  using Calls = std::span<fabric::IncomingCall* const>;

  [[nodiscard]] base::Status check(const fabric::IncomingCall& call) const;
  void serve_layer(Calls calls, fabric::CallServer& server);
  base::Status run_one(const fabric::IncomingCall& call);
  base::Status run_merged(Calls calls, std::size_t rows);
  void gather(Calls calls, std::size_t rows);
  void scatter(Calls calls);

  kernels::Compute compute_;

  mutable std::mutex mutex_;  // guards all that follows
  wire::ModelVersion model_;
  std::uint64_t model_key_ = 0;
  model::ModelConfig config_;
  std::unique_ptr<model::ExpertSet> experts_;
  wire::ExpertBits ready_;
  HostLoad load_;

  // Room for one batch, reused.
  std::vector<fabric::IncomingCall*> batch_;
  std::vector<model::ExpertPair> pairs_;
  model::PairOrder order_;
  kernels::QuantizedRows quantized_;
  base::AlignedVector<float> floats_;
  base::AlignedVector<float> y_;
};

}  // namespace conclave::expert_worker
