// All experts of a model in this process, behind the seam of the forward pass.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/expert_backend.hpp"
#include "conclave/model/expert_set.hpp"

namespace conclave::model {

/// An ExpertSet that holds everything, with what a dispatcher does around one: sorting the pairs
/// and rounding the rows once. One thread at a time.
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
                   std::span<const ExpertPair> pairs, std::span<const float*> outputs) override;

  [[nodiscard]] std::size_t bytes() const { return set_.bytes(); }

 private:
  LocalExperts(const ModelConfig& config, const kernels::Compute& compute,
               std::vector<RowForms> forms);

  ModelConfig config_;
  kernels::Compute compute_;
  ExpertSet set_;
  std::vector<RowForms> forms_;  // (layers)

  PairOrder order_;
  kernels::QuantizedRows quantized_;
  base::AlignedVector<float> y_;  // (pairs, hidden), in the order of order_
};

}  // namespace conclave::model
