// The numbers of one model, read from the metadata of its file and checked against each other, so
// that the rest of the library can size its buffers without a second look.
#pragma once

#include <cstdint>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/architecture.hpp"

namespace conclave::model {

/// Rotary position embedding, with YaRN as in arXiv 2309.00071 and ggml's rope_yarn.
struct RopeConfig {
  RopeStyle style = RopeStyle::kNeox;
  std::uint32_t dimensions = 0;  // rotated values of a head; even
  float base = 10000.0f;
  float scale = 1.0f;  // 1 / scaling factor, on positions
  bool yarn = false;
  std::uint32_t original_context = 0;  // yarn: the context that the model was trained with
  float magnitude = 1.0f;              // on cos and sin, all attention factors multiplied out
  float beta_fast = 32.0f;             // yarn: rotations beyond which a frequency is kept
  float beta_slow = 1.0f;              // yarn: rotations below which it is interpolated
};

/// Multi-head latent attention (DeepSeek V2, arXiv 2405.04434).
struct LatentConfig {
  std::uint32_t query_rank = 0;  // 0: queries come straight from the hidden state
  std::uint32_t kv_rank = 0;
  std::uint32_t nope = 0;   // values of a head without position
  std::uint32_t rope = 0;   // values of a head with position
  std::uint32_t value = 0;  // values of a head's output
};

struct AttentionConfig {
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;   // 1 for latent attention
  std::uint32_t key_dim = 0;    // of the cache: kv_rank + rope for latent attention
  std::uint32_t value_dim = 0;  // of the cache: kv_rank for latent attention
  float scale = 1.0f;           // on q . k
  std::uint32_t window = 0;     // sliding window in tokens, 0: none
  LatentConfig latent;          // all zero unless AttentionKind::kLatent
};

struct GateConfig {
  GateFunction function = GateFunction::kSoftmax;
  std::uint32_t experts = 0;
  std::uint32_t used = 0;         // k
  std::uint32_t groups = 1;       // 1: not group-limited
  std::uint32_t groups_used = 1;  // groups that take part
  bool normalize = true;
  float scale = 1.0f;  // on the weights
};

struct ModelConfig {
  const Architecture* architecture = nullptr;
  std::string name;  // `general.name`, may be empty
  std::uint32_t layers = 0;
  std::uint32_t dense_layers = 0;  // leading layers with a dense FFN
  std::uint32_t context_length = 0;
  std::uint32_t hidden = 0;
  std::uint32_t vocab = 0;
  std::uint32_t expert_ffn = 0;
  std::uint32_t shared_ffn = 0;  // width of the shared experts together, 0: none
  std::uint32_t dense_ffn = 0;   // of the leading layers, 0: none
  float norm_eps = 1e-6f;
  AttentionConfig attention;
  RopeConfig rope;
  GateConfig gate;

  [[nodiscard]] bool has_experts(std::uint32_t layer) const { return layer >= dense_layers; }
  /// The sliding window of a layer in tokens, 0: it sees everything.
  [[nodiscard]] std::uint32_t window(std::uint32_t layer) const;
};

/// kUnimplemented: an architecture or feature that we do not compute. kCorruptData: a key is
/// missing, of the wrong type, or contradicts another one or a tensor; the message names it.
base::Result<ModelConfig> read_config(const gguf::File& file);

}  // namespace conclave::model
