#include "served_model.hpp"

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/devices/memory_limit.hpp"
#include "conclave/engine/memory_needs.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::router {

namespace {

// Longest token that can be sent: as text it may triple, where each of its bytes is no character,
// and bring with it what a stop string had held back. The longest of open vocabularies have 1 KiB.
constexpr std::size_t kTokenBytesMax = (wire::kPieceBytesMax - wire::kStopBytesMax) / 3;

base::Status check_tokens(const tokenizer::Tokenizer& tokenizer) {
  for (std::size_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::size_t bytes = tokenizer.piece(static_cast<tokenizer::TokenId>(id)).size();
    if (bytes > kTokenBytesMax) {
      return base::fail(base::ErrorCode::kUnimplemented,
                        "token " + std::to_string(id) + " has " + std::to_string(bytes) +
                            " bytes, at most " + std::to_string(kTokenBytesMax) + " are served");
    }
  }
  return {};
}

// Keys and values take their memory after the model is loaded, which would be too late to refuse
// them.
base::Status check_fits(const gguf::File& file, const engine::BatcherOptions& batch,
                        std::uint64_t promised_bytes) {
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(engine::MemoryNeed backbone, engine::backbone_need(file, config));
  return engine::check_memory(
      std::array{std::move(backbone), engine::kv_need(config, batch),
                 engine::step_need(config, batch),
                 engine::MemoryNeed{"keys and values of other versions", promised_bytes}},
      devices::available_memory().value_or(~std::uint64_t{0}),
      "lower router.batch.kv-tokens-max, or take a router.batch.kv-type of fewer bits");
}

constexpr std::string_view kEmbeddings = "token_embd.weight";

base::Result<std::vector<gguf::ByteRange>> backbone_ranges(const gguf::File& file,
                                                           bool with_embeddings) {
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(const auto tensors, model::backbone_tensors(file, config));
  std::vector<gguf::ByteRange> ranges;
  for (const gguf::TensorInfo* tensor : tensors) {
    if (with_embeddings || tensor->name != kEmbeddings) ranges.push_back(tensor->range);
  }
  return ranges;
}

// Of a model that is elsewhere, all but the experts. False: it is here.
base::Result<bool> bring_backbone(const artifacts::OpenModel& opened, const artifacts::Stop& stop) {
  if (!opened.image) return false;
  CONCLAVE_TRY(const auto ranges, backbone_ranges(opened.file, true));
  CONCLAVE_TRY_VOID(opened.image->fetch(ranges, stop));
  return true;
}

// So that they come anew, and are not what the cache has.
base::Status refuse(const artifacts::OpenModel& opened) {
  CONCLAVE_TRY(const auto ranges, backbone_ranges(opened.file, true));
  opened.image->refuse(ranges);
  return {};
}

// What was packed. Embeddings are read where they are, as long as the model is served.
base::Status let_go(const gguf::File& file, artifacts::Image& image) {
  CONCLAVE_TRY(const auto ranges, backbone_ranges(file, false));
  image.release(ranges);
  return {};
}

// Before it is loaded: reading it brings it into the system's cache, where loading finds it.
base::Status check_backbone(const gguf::File& file, const wire::Sha256& recorded) {
  if (recorded == wire::Sha256{}) return {};
  CONCLAVE_TRY(const model::ModelConfig config, model::read_config(file));
  CONCLAVE_TRY(const model::Sha256 found, model::backbone_digest(file, config));
  if (std::memcmp(found.data(), recorded.data(), found.size()) == 0) return {};
  return base::fail(base::ErrorCode::kCorruptData,
                    "the bytes of its backbone are not those that were registered");
}

}  // namespace

base::Result<std::unique_ptr<ModelRun>> ModelRun::load(
    const wire::ModelVersion& version, const wire::Sha256& backbone, artifacts::Store& store,
    const artifacts::Stop& stop, const kernels::Compute& compute,
    const engine::BatcherOptions& batch, const dispatch::DispatchSettings& dispatch,
    fabric::Calls& client, telemetry::Metrics& metrics, telemetry::Logger log,
    const std::function<std::uint64_t()>& promised_bytes) {
  auto served = std::make_shared<ServedModel>();
  served->version = version;
  CONCLAVE_TRY(artifacts::OpenModel opened, store.open(version.uri, version.sha256, stop));
  CONCLAVE_TRY_VOID(check_fits(opened.file, batch, promised_bytes()));
  CONCLAVE_TRY(const bool is_brought, bring_backbone(opened, stop));
  if (base::Status checked = check_backbone(opened.file, backbone); !checked) {
    if (is_brought) CONCLAVE_TRY_VOID(refuse(opened));
    return base::fail(checked.error());
  }
  CONCLAVE_TRY(served->backbone, engine::BackboneModel::load(std::move(opened.file), compute));
  if (is_brought) CONCLAVE_TRY_VOID(let_go(served->backbone->file(), *opened.image));
  const gguf::File& file = served->backbone->file();
  const model::ModelConfig& config = served->backbone->config();
  const tokenizer::Tokenizer& tokenizer = served->backbone->tokenizer();
  CONCLAVE_TRY_VOID(check_tokens(tokenizer));
  CONCLAVE_TRY(PromptBuilder prompts, PromptBuilder::create(file.metadata(), tokenizer));
  served->prompts = std::make_unique<const PromptBuilder>(std::move(prompts));

  auto run = std::make_unique<ModelRun>();
  CONCLAVE_TRY(std::vector<model::RowForms> forms, model::row_forms(file, config));
  run->experts = std::make_unique<dispatch::RemoteExperts>(
      config, std::move(forms), compute, client, dispatch, metrics, std::move(log));
  CONCLAVE_TRY(run->pool, engine::make_kv_pool(config, batch));
  CONCLAVE_TRY(run->file, engine::make_kv_file(*run->pool, batch));
  run->batcher =
      std::make_unique<engine::Batcher>(served->backbone->backbone(), *run->experts, *run->pool,
                                        tokenizer, compute, batch, run->file.get());
  run->model = std::move(served);
  return run;
}

}  // namespace conclave::router
