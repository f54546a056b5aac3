// One model as this router serves it, built when the scheduler names it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "conclave/artifacts/store.hpp"
#include "conclave/dispatch/remote_experts.hpp"
#include "conclave/engine/backbone_model.hpp"
#include "conclave/engine/batcher.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/placement.hpp"
#include "prompt_builder.hpp"

namespace conclave::router {

/// What of a model any thread may use, and keep while it does: version, tokenizer and config of the
/// backbone, prompts. The backbone computes on the engine's thread alone.
struct ServedModel {
  wire::ModelVersion version;
  std::unique_ptr<engine::BackboneModel> backbone;
  std::unique_ptr<const PromptBuilder> prompts;
};

/// What runs it: the road to its experts and the batch. Of the engine's thread, from load() to the
/// destructor, since the links are that thread's; only what RemoteExperts says is for any.
struct ModelRun {
  /// Opens the file, of which no expert comes over if it is elsewhere, and loads the backbone;
  /// takes seconds, or as long as its bytes take. Errors of Store::open, Image::fetch,
  /// BackboneModel::load, PromptBuilder::create, make_kv_pool, make_kv_file and model::row_forms;
  /// kFailedPrecondition: it does not fit the memory that is available beside `promised_bytes` of
  /// others; kUnimplemented: tokens that are too long to be sent; kCorruptData: its backbone's sum
  /// is not `backbone`, which is zeros where none was recorded. All that is borrowed must outlive
  /// it.
  static base::Result<std::unique_ptr<ModelRun>> load(
      const wire::ModelVersion& version, const wire::Sha256& backbone, artifacts::Store& store,
      const artifacts::Stop& stop, const kernels::Compute& compute,
      const engine::BatcherOptions& batch, const dispatch::DispatchSettings& dispatch,
      fabric::Calls& client, telemetry::Metrics& metrics, telemetry::Logger log,
      const std::function<std::uint64_t()>& promised_bytes);

  std::shared_ptr<ServedModel> model;
  std::unique_ptr<dispatch::RemoteExperts> experts;
  std::unique_ptr<model::KvPool> pool;
  std::unique_ptr<engine::KvFile> file;  // of its blocks; may be null
  std::unique_ptr<engine::Batcher> batcher;
};

}  // namespace conclave::router
