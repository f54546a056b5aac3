#include "conclave/model/local_experts.hpp"

#include <mutex>
#include <utility>

#include "conclave/model/weight_bytes.hpp"
#include "parallel_load.hpp"

namespace conclave::model {

using base::Status;

LocalExperts::LocalExperts(const ModelConfig& config, const kernels::Compute& compute,
                           std::vector<RowForms> forms)
    : config_(config), compute_(compute), set_(config, compute), forms_(std::move(forms)) {}

base::Result<std::unique_ptr<LocalExperts>> LocalExperts::load(const gguf::File& file,
                                                               const ModelConfig& config,
                                                               const kernels::Compute& compute,
                                                               const Progress& progress) {
  CONCLAVE_TRY(std::vector<RowForms> forms, row_forms(file, config));
  std::unique_ptr<LocalExperts> all(new LocalExperts(config, compute, std::move(forms)));
  const std::size_t total = std::size_t{config.layers - config.dense_layers} * config.gate.experts;
  CONCLAVE_TRY(const std::size_t bytes, packed_experts_bytes(file, config));
  base::Arena arena(bytes);
  std::mutex mutex;  // guards the set, which is not made for several threads
  CONCLAVE_TRY_VOID(load_parallel(compute.pool, total, progress, [&](std::size_t i) -> Status {
    const ExpertId id{config.dense_layers + static_cast<std::uint32_t>(i / config.gate.experts),
                      static_cast<std::uint32_t>(i % config.gate.experts)};
    CONCLAVE_TRY(Expert expert, load_expert(file, config, id, arena));
    const std::lock_guard lock(mutex);
    return all->set_.insert(id, std::move(expert));
  }));
  file.forget();
  return all;
}

Status LocalExperts::run(std::uint32_t layer, const float* x, std::size_t rows,
                         std::span<const ExpertPair> pairs, std::span<const float*> outputs) {
  CONCLAVE_TRY_VOID(order_.sort(pairs, rows, config_.gate.experts));
  kernels::RowsView view{.values = x, .rows = rows, .columns = config_.hidden};
  if (layer < forms_.size() && forms_[layer].quantized()) {
    view =
        kernels::quantize(compute_, x, rows, config_.hidden, forms_[layer].scale_block, quantized_);
  }
  if (y_.size() < pairs.size() * config_.hidden) y_.resize(pairs.size() * config_.hidden);
  CONCLAVE_TRY_VOID(set_.run(layer, view, order_.sorted(), y_.data()));
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    outputs[p] = y_.data() + order_.places()[p] * std::size_t{config_.hidden};
  }
  return {};
}

}  // namespace conclave::model
