// One model as this router serves it: the backbone, the prompts, the batch, and the road to its
// experts. Built once when the scheduler names a model; used by the engine's thread, but for the
// immutable parts.
#pragma once

#include <memory>

#include "conclave/dispatch/remote_experts.hpp"
#include "conclave/engine/backbone_model.hpp"
#include "conclave/engine/batcher.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/placement.hpp"
#include "prompt_builder.hpp"

namespace conclave::router {

struct ServedModel {
  /// Opens the file and loads the backbone; takes seconds. Errors of BackboneModel::load,
  /// PromptBuilder::create and model::row_forms. All that is borrowed must outlive it.
  static base::Result<std::unique_ptr<ServedModel>> load(
      const wire::ModelVersion& version, const kernels::Compute& compute,
      const engine::BatcherOptions& batch, const dispatch::DispatchSettings& dispatch,
      fabric::CallClient& client, telemetry::Metrics& metrics, telemetry::Logger log);

  wire::ModelVersion version;
  std::unique_ptr<engine::BackboneModel> backbone;   // tokenizer() and config(): any thread
  std::unique_ptr<const PromptBuilder> prompts;      // any thread
  std::unique_ptr<dispatch::RemoteExperts> experts;  // as it says
  std::unique_ptr<engine::Batcher> batcher;          // the engine's thread
};

}  // namespace conclave::router
