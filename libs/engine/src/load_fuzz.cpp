// A model file whose bytes are hostile: whatever gguf lets through must load and run, or be refused
// with an error. Seeds are the golden models (tests/golden/models).
#include <cstddef>
#include <cstdint>
#include <span>

#include "conclave/engine/forward.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/local_experts.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace {

using namespace conclave;

// A hostile file may ask for wide rows: refuse what a fuzzing machine cannot hold, as an operator's
// memory limit would.
bool modest(const model::ModelConfig& config) {
  const auto& attention = config.attention;
  return std::uint64_t{attention.heads} * (attention.key_dim + attention.value_dim) < (1u << 16) &&
         config.layers < 64 && config.rope.dimensions < (1u << 16);
}

void run(const gguf::File& file) {
  const auto config = model::read_config(file);
  if (!config || !modest(*config)) return;
  base::ThreadPool pool(1);
  const kernels::Compute compute{kernels::kernel_table(kernels::best_isa()), pool};
  const auto backbone = model::Backbone::load(file, *config, compute, {});
  if (!backbone) return;
  const auto experts = model::LocalExperts::load(file, *config, compute, {});
  if (!experts) return;
  const auto cache = model::KvPool::create(*config, model::KvType::kF16, 3);
  if (!cache) return;
  const model::KvBlockId blocks[] = {0, 1, 2};
  engine::Forward forward(**backbone, **experts, **cache);
  const auto last = static_cast<std::int32_t>(config->vocab) - 1;
  const engine::StepRow rows[] = {{0, 0, blocks, false}, {last, 1, blocks, true}};
  (void)forward.step(rows);
  const engine::StepRow late[] = {{0, 47, blocks, true}, {last + 1, 48, blocks, true}};
  (void)forward.step(late);
  (void)forward.step(std::span(late).first(1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = gguf::File::parse(std::as_bytes(std::span(data, size)));
  if (!file) return 0;
  run(*file);
  (void)tokenizer::Tokenizer::from_metadata(file->metadata());
  return 0;
}
