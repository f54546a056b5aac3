#include "conclave/engine/local_model.hpp"

#include <sched.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

namespace conclave::engine {

unsigned available_threads() {
  cpu_set_t set;  // room for 1024 processors: on larger machines the call fails
  CPU_ZERO(&set);
  const bool known = ::sched_getaffinity(0, sizeof set, &set) == 0;
  const unsigned count =
      known ? static_cast<unsigned>(CPU_COUNT(&set)) : std::thread::hardware_concurrency();
  return std::max(1u, count);
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

  if (local->pool_.threads() < threads) {
    return base::fail(base::ErrorCode::kUnavailable,
                      "the system starts " + std::to_string(local->pool_.threads()) +
                          " threads, not " + std::to_string(threads));
  }
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
