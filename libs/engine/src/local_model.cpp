#include "conclave/engine/local_model.hpp"

#include <sched.h>

#include <utility>

namespace conclave::engine {

unsigned available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int count = CPU_COUNT(&set);
  return count > 0 ? static_cast<unsigned>(count) : 1;
}

LocalModel::LocalModel(gguf::File file, tokenizer::Tokenizer tokenizer,
                       const kernels::KernelTable& kernels, unsigned threads)
    : file_(std::move(file)),
      tokenizer_(std::move(tokenizer)),
      pool_(threads),
      compute_{kernels, pool_} {}

base::Result<std::unique_ptr<LocalModel>> LocalModel::load(const std::filesystem::path& path,
                                                           const LoadOptions& options) {
  CONCLAVE_TRY(const kernels::Isa isa, kernels::choose_isa(options.isa));
  CONCLAVE_TRY(gguf::File file, gguf::File::open(path));
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(tokenizer::Tokenizer tokenizer,
               tokenizer::Tokenizer::from_metadata(file.metadata()));
  const unsigned threads = options.threads != 0 ? options.threads : available_threads();
  std::unique_ptr<LocalModel> local(
      new LocalModel(std::move(file), std::move(tokenizer), kernels::kernel_table(isa), threads));

  const std::size_t experts =
      std::size_t{config.layers - config.dense_layers} * config.gate.experts;
  const std::size_t total = config.layers + experts;
  const auto report = [&](std::size_t before) {
    return [&options, before, total](std::size_t done, std::size_t) {
      if (options.progress) options.progress(before + done, total);
    };
  };
  CONCLAVE_TRY(local->backbone_,
               model::Backbone::load(local->file_, config, local->compute_, report(0)));
  CONCLAVE_TRY(local->experts_, model::LocalExperts::load(local->file_, config, local->compute_,
                                                          report(config.layers)));
  return local;
}

}  // namespace conclave::engine
