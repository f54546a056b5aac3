// The routed experts: reading one from its byte ranges, and computing the (row, expert) pairs of a
// layer. This is the whole of what a worker does; it knows no sequence and no gate.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/linear.hpp"

namespace conclave::model {

struct ExpertId {
  std::uint32_t layer = 0;
  std::uint32_t index = 0;

  friend auto operator<=>(const ExpertId&, const ExpertId&) = default;
};

/// One token row sent to one expert of the layer at hand.
struct ExpertPair {
  std::uint32_t row = 0;
  std::uint32_t expert = 0;

  friend bool operator==(const ExpertPair&, const ExpertPair&) = default;
};

/// gate, up: (ffn, hidden); down: (hidden, ffn).
struct Expert {
  Linear gate;
  Linear up;
  Linear down;

  [[nodiscard]] std::size_t bytes() const {
    return gate.weight.bytes() + up.weight.bytes() + down.weight.bytes();
  }
};

/// Where an expert's bytes are in the file: its slices of the expert tensors, weights before
/// biases. Layouts: stacked (`ffn_up_exps`), fused (`ffn_gate_up_exps`) and one
/// tensor an expert (`ffn_up.3`). kInvalidArgument: no such expert; kCorruptData: tensors missing
/// or misshapen.
base::Result<std::vector<gguf::ByteRange>> expert_ranges(const gguf::File& file,
                                                         const ModelConfig& config, ExpertId id);

/// Reads and packs one expert; touches no other bytes of the file. Errors as `expert_ranges`.
base::Result<Expert> load_expert(const gguf::File& file, const ModelConfig& config, ExpertId id);

/// Computes the expert outputs of one layer for a batch of rows. Local here; the router's
/// dispatcher implements it over workers.
class ExpertBackend {
 public:
  virtual ~ExpertBackend() = default;

  /// y[p, :] = expert(pairs[p].expert)(x[pairs[p].row, :]), unweighted; x (rows, hidden), y
  /// (pairs, hidden). The bits of a pair depend on its row and expert only.
  virtual base::Status run(std::uint32_t layer, const float* x, std::size_t rows,
                           std::span<const ExpertPair> pairs, float* y) = 0;
};

/// Called now and then while loading, from one thread at a time.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

/// All experts of a model in this process.
class LocalExperts final : public ExpertBackend {
 public:
  /// Loads every expert of every layer over the pool. Errors as `load_expert`. `compute` must
  /// outlive the object.
  static base::Result<std::unique_ptr<LocalExperts>> load(const gguf::File& file,
                                                          const ModelConfig& config,
                                                          const kernels::Compute& compute,
                                                          const Progress& progress);

  /// kInvalidArgument: a pair names a row, layer or expert that is not there.
  base::Status run(std::uint32_t layer, const float* x, std::size_t rows,
                   std::span<const ExpertPair> pairs, float* y) override;

  [[nodiscard]] std::size_t bytes() const;

 private:
  LocalExperts(const ModelConfig& config, const kernels::Compute& compute);

  [[nodiscard]] const Expert& expert(std::uint32_t layer, std::uint32_t index) const {
    return experts_[std::size_t{layer - config_.dense_layers} * config_.gate.experts + index];
  }
  base::Status group(std::uint32_t layer, std::size_t rows, std::span<const ExpertPair> pairs);
  void run_up(std::uint32_t layer, const float* x, std::size_t rows);
  void run_down(std::uint32_t layer, std::span<const ExpertPair> pairs, float* y);

  ModelConfig config_;
  kernels::Compute compute_;
  std::vector<Expert> experts_;  // (layer - dense_layers, expert)

  // Room for one call, reused. Pairs are worked in the order of their experts: `order_[i]` is the
  // i-th pair, `rows_[i]` its row, `first_[e] .. first_[e + 1]` the run of expert e.
  std::vector<std::uint32_t> order_;
  std::vector<std::uint32_t> rows_;
  std::vector<std::uint32_t> first_;
  base::AlignedVector<float> gate_;
  base::AlignedVector<float> up_;
  base::AlignedVector<float> down_;
  kernels::QuantizedRows x_quantized_;
  kernels::QuantizedRows h_quantized_;
};

}  // namespace conclave::model
