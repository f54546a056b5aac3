#include "conclave/engine/local_model.hpp"

#include <array>
#include <utility>

#include "conclave/engine/memory_needs.hpp"

namespace conclave::engine {

base::Result<std::unique_ptr<LocalModel>> LocalModel::load(const std::filesystem::path& path,
                                                           const LoadOptions& options) {
  std::unique_ptr<LocalModel> local(new LocalModel());
  CONCLAVE_TRY(local->host_, ComputeHost::create(options.threads, options.isa));
  const kernels::Compute& compute = local->host_->compute();
  CONCLAVE_TRY(gguf::File file, gguf::File::open(path));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(const MemoryNeed backbone, backbone_need(file, config));
  CONCLAVE_TRY(const MemoryNeed routed, experts_need(file, config));
  CONCLAVE_TRY_VOID(check_memory(std::array{backbone, routed}, options.memory_available,
                                 "a model with smaller weights may fit"));

  const std::size_t experts =
      std::size_t{config.layers - config.dense_layers} * config.gate.experts;
  const std::size_t total = config.layers + experts;
  const auto report = [&](std::size_t before) {
    return [&options, before, total](std::size_t done, std::size_t) {
      if (options.progress) options.progress(before + done, total);
    };
  };
  CONCLAVE_TRY(local->model_, BackboneModel::load(std::move(file), compute, report(0)));
  CONCLAVE_TRY(local->experts_,
               model::LocalExperts::load(local->file(), config, compute, report(config.layers)));
  return local;
}

}  // namespace conclave::engine
