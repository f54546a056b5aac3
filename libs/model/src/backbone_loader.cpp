// Reads the tensors of the backbone; layers are packed in parallel.
#include "conclave/model/backbone.hpp"
#include "conclave/model/weight_bytes.hpp"
#include "parallel_load.hpp"
#include "tensor_reader.hpp"

namespace conclave::model {

using base::Result;
using base::Status;

Result<std::unique_ptr<Backbone>> Backbone::load(const gguf::File& file, const ModelConfig& config,
                                                 const kernels::Compute& compute,
                                                 const Progress& progress) {
  std::unique_ptr<Backbone> backbone(new Backbone(file, config, compute));
  CONCLAVE_TRY(const std::size_t bytes, packed_backbone_bytes(file, config));
  base::Arena arena(bytes);
  const TensorReader reader(file, arena);
  CONCLAVE_TRY_VOID(backbone->load_globals(reader));
  backbone->layers_.resize(config.layers);
  CONCLAVE_TRY_VOID(
      load_parallel(compute.pool, config.layers, progress, [&](std::size_t i) -> Status {
        CONCLAVE_TRY(backbone->layers_[i],
                     backbone->load_layer(reader, static_cast<std::uint32_t>(i)));
        return {};
      }));
  file.forget();
  return backbone;
}

// The head is as large as many layers, and nothing else is loaded beside it.
Status Backbone::load_globals(const TensorReader& reader) {
  CONCLAVE_TRY(embedding_, reader.expect("token_embd.weight", {config_.hidden, config_.vocab}));
  CONCLAVE_TRY(output_norm_, reader.vector("output_norm.weight", config_.hidden));
  // Tied models have no output matrix: the embeddings serve.
  const bool tied = !reader.has("output.weight");
  const std::string head = tied ? "token_embd" : "output";
  CONCLAVE_TRY(const gguf::TensorInfo* weight,
               reader.expect(head + ".weight", {config_.hidden, config_.vocab}));
  CONCLAVE_TRY(head_.weight, reader.rows(*weight, config_.vocab, config_.hidden, compute_.pool));
  CONCLAVE_TRY(head_.bias, reader.vector_if_any(head + ".bias", config_.vocab));
  CONCLAVE_TRY(const auto factors,
               reader.vector_if_any("rope_freqs.weight", config_.rope.dimensions / 2));
  rope_ = std::make_unique<Rope>(config_.rope, factors);
  return {};
}

Result<Backbone::Layer> Backbone::load_layer(const TensorReader& reader,
                                             std::uint32_t index) const {
  Layer layer;
  CONCLAVE_TRY(layer.attention_norm,
               reader.vector(block_name(index, "attn_norm.weight"), config_.hidden));
  CONCLAVE_TRY(layer.attention, load_attention(reader, config_, *rope_, index));
  const std::string norm = std::string(config_.architecture->ffn_norm) + ".weight";
  CONCLAVE_TRY(layer.ffn_norm, reader.vector(block_name(index, norm), config_.hidden));
  CONCLAVE_TRY_VOID(load_ffn(reader, index, layer));
  return layer;
}

Status Backbone::load_ffn(const TensorReader& reader, std::uint32_t index, Layer& layer) const {
  const auto name = [&](std::string_view tensor) { return block_name(index, tensor); };
  const auto load_network = [&](std::string_view suffix, std::uint64_t width) -> Status {
    const std::string end(suffix);
    CONCLAVE_TRY(layer.ffn.gate, reader.linear(name("ffn_gate" + end), config_.hidden, width));
    CONCLAVE_TRY(layer.ffn.up, reader.linear(name("ffn_up" + end), config_.hidden, width));
    CONCLAVE_TRY(layer.ffn.down, reader.linear(name("ffn_down" + end), width, config_.hidden));
    return {};
  };
  if (!config_.has_experts(index)) return load_network("", config_.dense_ffn);

  const GateConfig& gate = config_.gate;
  CONCLAVE_TRY(layer.gate, reader.linear(name("ffn_gate_inp"), config_.hidden, gate.experts));
  CONCLAVE_TRY(layer.gate_choice, reader.vector_if_any(name("exp_probs_b.bias"), gate.experts));
  if (config_.shared_ffn == 0) return {};
  CONCLAVE_TRY_VOID(load_network("_shexp", config_.shared_ffn));
  const std::string shared_gate = name("ffn_gate_inp_shexp.weight");
  if (reader.has(shared_gate)) {
    CONCLAVE_TRY(const auto* tensor, reader.expect(shared_gate, {config_.hidden}));
    CONCLAVE_TRY(layer.shared_gate.weight, reader.rows(*tensor, 0, 1, config_.hidden));
  }
  return {};
}

}  // namespace conclave::model
