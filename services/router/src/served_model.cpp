#include "served_model.hpp"

#include <utility>

namespace conclave::router {

base::Result<std::unique_ptr<ServedModel>> ServedModel::load(
    const wire::ModelVersion& version, const kernels::Compute& compute,
    const engine::BatcherOptions& batch, const dispatch::DispatchSettings& dispatch,
    fabric::CallClient& client, telemetry::Metrics& metrics, telemetry::Logger log) {
  auto served = std::make_unique<ServedModel>();
  served->version = version;
  CONCLAVE_TRY(served->backbone, engine::BackboneModel::load(version.uri, compute));
  const gguf::File& file = served->backbone->file();
  const model::ModelConfig& config = served->backbone->config();
  const tokenizer::Tokenizer& tokenizer = served->backbone->tokenizer();
  CONCLAVE_TRY(PromptBuilder prompts, PromptBuilder::create(file.metadata(), tokenizer));
  served->prompts = std::make_unique<const PromptBuilder>(std::move(prompts));
  CONCLAVE_TRY(std::vector<model::RowForms> forms, model::row_forms(file, config));
  served->experts = std::make_unique<dispatch::RemoteExperts>(
      config, std::move(forms), compute, client, dispatch, metrics, std::move(log));
  served->batcher = std::make_unique<engine::Batcher>(
      served->backbone->backbone(), *served->experts, tokenizer, compute.kernels, batch);
  return served;
}

}  // namespace conclave::router
