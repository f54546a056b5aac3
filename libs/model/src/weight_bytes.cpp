#include "conclave/model/weight_bytes.hpp"

#include <string_view>

#include "conclave/base/arena.hpp"
#include "conclave/kernels/packed_matrix.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/model/experts.hpp"

namespace conclave::model {
namespace {

using base::ErrorCode;
using base::Result;

Result<std::size_t> matrix_bytes(const gguf::TensorInfo& tensor, gguf::BlockType type,
                                 std::uint64_t outputs, std::uint64_t inputs) {
  const auto bytes = kernels::packed_bytes(type, outputs, inputs);
  if (!bytes) {
    return base::fail(ErrorCode::kCorruptData,
                      "tensor " + tensor.name + " is " + tensor.describe() + ": no matrix");
  }
  return base::Arena::block_bytes(*bytes);
}

// attn_kv_b has keys and values of all heads; the keys are transposed and kept as floats.
Result<std::size_t> joint_heads_bytes(const gguf::TensorInfo& tensor, const ModelConfig& config) {
  const LatentConfig& latent = config.attention.latent;
  CONCLAVE_TRY(const std::size_t keys,
               matrix_bytes(tensor, gguf::BlockType::kF32, latent.kv_rank, latent.nope));
  CONCLAVE_TRY(const std::size_t values,
               matrix_bytes(tensor, tensor.type, latent.value, latent.kv_rank));
  return config.attention.heads * (keys + values);
}

// The one vector that is a matrix: a product of one output makes the gate of the shared experts.
bool is_shared_gate(const gguf::TensorInfo& tensor) {
  return tensor.name.ends_with(".ffn_gate_inp_shexp.weight");
}

// A stack of matrices (inputs, outputs, count): each is packed for itself.
Result<std::size_t> stack_bytes(const gguf::TensorInfo& tensor) {
  const std::uint64_t outputs = tensor.shape.size() < 2 ? 1 : tensor.shape[1];
  CONCLAVE_TRY(const std::size_t bytes,
               matrix_bytes(tensor, tensor.type, outputs, tensor.shape[0]));
  return tensor.elements() / (tensor.shape[0] * outputs) * bytes;
}

}  // namespace

Result<std::size_t> packed_backbone_bytes(const gguf::File& file, const ModelConfig& config) {
  CONCLAVE_TRY(const auto tensors, backbone_tensors(file, config));
  const bool tied = file.find("output.weight") == nullptr;
  const bool latent = config.architecture->attention == AttentionKind::kLatent;
  std::size_t sum = 0;
  for (const gguf::TensorInfo* tensor : tensors) {
    if (tensor->shape.size() < 2 && !is_shared_gate(*tensor)) continue;
    if (tensor->name == "token_embd.weight" && !tied) continue;
    const bool joint = latent && tensor->name.ends_with(".attn_kv_b.weight");
    CONCLAVE_TRY(const std::size_t bytes,
                 joint ? joint_heads_bytes(*tensor, config) : stack_bytes(*tensor));
    sum += bytes;
  }
  return sum;
}

Result<std::size_t> packed_experts_bytes(const gguf::File& file, const ModelConfig& config) {
  std::size_t sum = 0;
  for (std::uint32_t layer = config.dense_layers; layer < config.layers; ++layer) {
    for (std::uint32_t index = 0; index < config.gate.experts; ++index) {
      CONCLAVE_TRY(const std::size_t bytes, packed_expert_bytes(file, config, {layer, index}));
      sum += bytes;
    }
  }
  return sum;
}

}  // namespace conclave::model
