#include "conclave/model/config.hpp"

#include <cmath>
#include <vector>

#include "conclave/base/text.hpp"
#include "tensor_names.hpp"

namespace conclave::model {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

// Far above any published model, and small enough that products of a few of them fit 64 bits.
constexpr std::uint32_t kLayersMax = 1024;
constexpr std::uint32_t kWidthMax = 1u << 20;  // hidden, ffn, head counts times sizes
constexpr std::uint32_t kExpertsMax = 1u << 14;
constexpr std::uint32_t kContextMax = 1u << 28;
// Over all layers: four times DeepSeek-V3's and Kimi K2's. Each costs at least a kilobyte to hold.
constexpr std::uint64_t kExpertsTotalMax = 1u << 17;

// Reads `<architecture>.<key>`.
class Keys {
 public:
  Keys(const gguf::Metadata& metadata, std::string_view architecture)
      : metadata_(metadata), prefix_(std::string(architecture) + ".") {}

  [[nodiscard]] std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  [[nodiscard]] bool has(std::string_view key) const { return metadata_.contains(full(key)); }

  /// An integer in [least, most].
  [[nodiscard]] Result<std::uint32_t> number(std::string_view key, std::uint32_t least,
                                             std::uint32_t most) const {
    if (!has(key)) return fail(ErrorCode::kCorruptData, "metadata lacks " + full(key));
    CONCLAVE_TRY(const auto value, scalar_or_uniform(key));
    if (value < least || value > most) {
      return fail(ErrorCode::kCorruptData, full(key) + " is " + std::to_string(value) +
                                               ", expected " + std::to_string(least) + " to " +
                                               std::to_string(most));
    }
    return value;
  }
  [[nodiscard]] Result<std::uint32_t> number_or(std::string_view key, std::uint32_t fallback,
                                                std::uint32_t most) const {
    if (!has(key)) return fallback;
    return number(key, 0, most);
  }
  [[nodiscard]] Result<float> real_or(std::string_view key, float fallback) const {
    CONCLAVE_TRY(const float value, metadata_.get_or<float>(full(key), fallback));
    if (!std::isfinite(value)) {
      return fail(ErrorCode::kCorruptData, full(key) + " is not a finite number");
    }
    return value;
  }
  [[nodiscard]] Result<bool> flag_or(std::string_view key, bool fallback) const {
    return metadata_.get_or<bool>(full(key), fallback);
  }
  [[nodiscard]] Result<std::string> text_or(std::string_view key, std::string fallback) const {
    return metadata_.get_or<std::string>(full(key), std::move(fallback));
  }

 private:
  // Some keys may be one number or one for each layer; layers that differ are not supported.
  [[nodiscard]] Result<std::uint32_t> scalar_or_uniform(std::string_view key) const {
    if (!std::holds_alternative<gguf::Array>(metadata_.find(full(key))->data)) {
      return metadata_.get<std::uint32_t>(full(key));
    }
    CONCLAVE_TRY(const auto values, metadata_.get_array<std::uint32_t>(full(key)));
    if (values.empty()) return fail(ErrorCode::kCorruptData, full(key) + " is empty");
    for (const std::uint32_t value : values) {
      if (value == values.front()) continue;
      return fail(ErrorCode::kUnimplemented, full(key) + " differs between layers");
    }
    return values.front();
  }

  const gguf::Metadata& metadata_;
  std::string prefix_;
};

base::Status read_latent(const Keys& keys, AttentionConfig& attention, std::uint32_t rope) {
  LatentConfig& latent = attention.latent;
  CONCLAVE_TRY(latent.kv_rank, keys.number("attention.kv_lora_rank", 1, kWidthMax));
  CONCLAVE_TRY(latent.query_rank, keys.number_or("attention.q_lora_rank", 0, kWidthMax));
  // Files since 2025 describe the cached row in key_length and the heads in *_mla; older ones
  // describe the heads in key_length.
  const bool split = keys.has("attention.key_length_mla");
  CONCLAVE_TRY(
      const auto key,
      keys.number(split ? "attention.key_length_mla" : "attention.key_length", 1, kWidthMax));
  CONCLAVE_TRY(
      latent.value,
      keys.number(split ? "attention.value_length_mla" : "attention.value_length", 1, kWidthMax));
  if (key <= rope) {
    return fail(ErrorCode::kCorruptData, "the key length of a head, " + std::to_string(key) +
                                             ", leaves nothing beside its " + std::to_string(rope) +
                                             " rotated values");
  }
  latent.rope = rope;
  latent.nope = key - rope;
  attention.kv_heads = 1;
  attention.key_dim = latent.kv_rank + rope;
  attention.value_dim = latent.kv_rank;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(key));
  return {};
}

base::Status read_grouped(const Keys& keys, std::uint32_t hidden, AttentionConfig& attention) {
  CONCLAVE_TRY(attention.kv_heads,
               keys.number_or("attention.head_count_kv", attention.heads, kWidthMax));
  if (attention.kv_heads == 0 || attention.heads % attention.kv_heads != 0) {
    return fail(ErrorCode::kCorruptData,
                std::to_string(attention.heads) + " attention heads do not share " +
                    std::to_string(attention.kv_heads) + " key-value heads evenly");
  }
  const std::uint32_t by_width = hidden / attention.heads;
  CONCLAVE_TRY(attention.key_dim, keys.number_or("attention.key_length", by_width, kWidthMax));
  CONCLAVE_TRY(attention.value_dim, keys.number_or("attention.value_length", by_width, kWidthMax));
  if (attention.key_dim == 0 || attention.value_dim == 0) {
    return fail(ErrorCode::kCorruptData, "an attention head has no values");
  }
  attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.key_dim));
  return {};
}

base::Status read_rope(const Keys& keys, const Architecture& architecture,
                       AttentionConfig& attention, std::uint32_t context, RopeConfig& rope) {
  rope.style = architecture.rope;
  CONCLAVE_TRY(rope.base, keys.real_or("rope.freq_base", 10000.0f));
  // Old files name a factor but no type: positions are scaled linearly.
  const bool has_factor = keys.has("rope.scaling.factor") || keys.has("rope.scale_linear");
  const char* const unnamed = has_factor ? "linear" : "none";
  CONCLAVE_TRY(const auto type, keys.text_or("rope.scaling.type", unnamed));
  // Converters write a factor of 0 for none; the oldest files have their factor under another key.
  CONCLAVE_TRY(const auto old_factor, keys.real_or("rope.scale_linear", 0.0f));
  CONCLAVE_TRY(const auto written, keys.real_or("rope.scaling.factor", old_factor));
  const float factor = written == 0.0f ? 1.0f : written;
  if (rope.base <= 0.0f || factor < 0.0f) {
    return fail(ErrorCode::kCorruptData, "rope base and scaling factor must not be negative");
  }
  if (type != "none" && type != "linear" && type != "yarn") {
    return fail(ErrorCode::kUnimplemented,
                "rope scaling " + base::shown(type) + " is not supported");
  }
  if (type == "none") return {};
  rope.scale = 1.0f / factor;
  if (type == "linear") return {};
  rope.yarn = true;
  CONCLAVE_TRY(rope.original_context,
               keys.number_or("rope.scaling.original_context_length", context, kContextMax));
  CONCLAVE_TRY(rope.beta_fast, keys.real_or("rope.scaling.yarn_beta_fast", 32.0f));
  CONCLAVE_TRY(rope.beta_slow, keys.real_or("rope.scaling.yarn_beta_slow", 1.0f));
  CONCLAVE_TRY(const auto attention_factor, keys.real_or("rope.scaling.attn_factor", 1.0f));
  // YaRN's own magnitude on cos and sin, and so squared on the scores.
  // Extended precision: the same bits with any math library.
  const auto log_factor = static_cast<float>(std::log(static_cast<long double>(factor)));
  const float yarn = attention_factor * (1.0f + 0.1f * log_factor);
  rope.magnitude = yarn;
  if (architecture.attention == AttentionKind::kLatent) {
    // DeepSeek puts a magnitude on the whole score, with a slope of its own (0.1 * mscale_all_dim,
    // the file's yarn_log_multiplier) that replaces the one on cos and sin. llama.cpp applies both
    // where a file lacks the slope.
    CONCLAVE_TRY(const auto slope, keys.real_or("rope.scaling.yarn_log_multiplier", 0.0f));
    const float whole = slope != 0.0f ? attention_factor * (1.0f + slope * log_factor) : yarn;
    attention.scale *= whole * whole;
    if (slope != 0.0f) rope.magnitude = attention_factor;
  }
  return {};
}

base::Status read_gate(const Keys& keys, const ModelConfig& config, GateConfig& gate) {
  const Architecture& architecture = *config.architecture;
  CONCLAVE_TRY(gate.experts, keys.number("expert_count", 1, kExpertsMax));
  CONCLAVE_TRY(gate.used, keys.number("expert_used_count", 1, gate.experts));
  CONCLAVE_TRY(const auto function, keys.number_or("expert_gating_func", 0, 255));
  // Converters write 0, or nothing, where a model has no say in it. GLM-4.7-Flash came under
  // deepseek2's name and without the key: llama.cpp knows it by its size.
  const bool is_glm = architecture.attention == AttentionKind::kLatent &&
                      (config.layers == 47 || config.layers == 48) && config.vocab == 154880;
  const GateFunction unnamed = is_glm ? GateFunction::kSigmoid : architecture.gate;
  gate.function = function == 0 ? unnamed : static_cast<GateFunction>(function);
  if (function > 3) {
    return fail(ErrorCode::kUnimplemented,
                "expert_gating_func " + std::to_string(function) + " is not supported");
  }
  CONCLAVE_TRY(gate.scale, keys.real_or("expert_weights_scale", 1.0f));
  if (gate.scale == 0.0f) gate.scale = 1.0f;
  CONCLAVE_TRY(const auto normalize, keys.flag_or("expert_weights_norm", false));
  switch (architecture.weight_norm) {
    case WeightNorm::kAlways:
      gate.normalize = true;
      break;
    case WeightNorm::kNever:
      gate.normalize = false;
      break;
    case WeightNorm::kFromMetadata:
      gate.normalize = normalize;
      break;
  }
  CONCLAVE_TRY(gate.groups, keys.number_or("expert_group_count", 1, gate.experts));
  CONCLAVE_TRY(gate.groups_used,
               keys.number_or("expert_group_used_count", gate.groups, kExpertsMax));
  if (gate.groups <= 1) {
    gate.groups = gate.groups_used = 1;
    return {};
  }
  const std::uint32_t group_size = gate.experts / gate.groups;
  if (gate.experts % gate.groups != 0 || gate.groups_used == 0 || gate.groups_used > gate.groups ||
      gate.used > gate.groups_used * group_size) {
    return fail(ErrorCode::kCorruptData,
                std::to_string(gate.used) + " of " + std::to_string(gate.experts) +
                    " experts cannot be picked from " + std::to_string(gate.groups_used) + " of " +
                    std::to_string(gate.groups) + " groups");
  }
  return {};
}

// The inputs of an expert's down projection; 0 if there is no such tensor.
std::uint32_t expert_width(const gguf::File& file, std::uint32_t layer) {
  const std::string prefix = "blk." + std::to_string(layer) + ".ffn_down";
  for (const char* name : {"_exps.weight", ".0.weight"}) {
    const gguf::TensorInfo* tensor = file.find(prefix + name);
    if (tensor != nullptr && tensor->shape[0] <= kWidthMax) {
      return static_cast<std::uint32_t>(tensor->shape[0]);
    }
  }
  return 0;
}

base::Status read_ffn(const Keys& keys, const gguf::File& file, ModelConfig& config) {
  CONCLAVE_TRY(config.dense_layers, keys.number_or("leading_dense_block_count", 0, config.layers));
  CONCLAVE_TRY(const auto ffn, keys.number_or("feed_forward_length", 0, kWidthMax));
  // Files that give the experts' width no key of their own use the dense one for it, or for the
  // width of all picked experts together: their tensors tell.
  const std::uint32_t stored = expert_width(file, config.dense_layers);
  CONCLAVE_TRY(config.expert_ffn,
               keys.number_or("expert_feed_forward_length", stored != 0 ? stored : ffn, kWidthMax));
  if (config.dense_layers > 0) config.dense_ffn = ffn;
  // The shared experts' width has several keys over the architectures; the tensor always knows.
  const std::string shared = "blk." + std::to_string(config.dense_layers) + ".ffn_up_shexp.weight";
  if (const gguf::TensorInfo* tensor = file.find(shared)) {
    if (tensor->shape.size() != 2 || tensor->shape[1] > kWidthMax) {
      return fail(ErrorCode::kCorruptData, shared + " is " + tensor->describe());
    }
    config.shared_ffn = static_cast<std::uint32_t>(tensor->shape[1]);
  }
  if (config.expert_ffn == 0) {
    return fail(ErrorCode::kCorruptData, "metadata gives no width for the experts");
  }
  if (std::uint64_t{config.layers} * config.gate.experts > kExpertsTotalMax) {
    return fail(ErrorCode::kCorruptData, std::to_string(config.layers) + " layers of " +
                                             std::to_string(config.gate.experts) +
                                             " experts are more than " +
                                             std::to_string(kExpertsTotalMax));
  }
  return {};
}

// What would change the numbers if it were left out.
base::Status refuse_unknown(const Keys& keys, const gguf::File& file, const ModelConfig& config) {
  CONCLAVE_TRY(const auto temperature, keys.real_or("attention.temperature_scale", 0.0f));
  if (temperature != 0.0f) {
    return fail(ErrorCode::kUnimplemented,
                keys.full("attention.temperature_scale") + " is not supported");
  }
  if (config.architecture->window != WindowPattern::kNone && config.attention.window == 0) {
    return fail(ErrorCode::kCorruptData, "metadata lacks " + keys.full("attention.sliding_window"));
  }
  return check_tensor_names(file, config);
}

}  // namespace

std::uint32_t ModelConfig::window(std::uint32_t layer) const {
  const bool windowed = architecture->window == WindowPattern::kEvenLayers && layer % 2 == 0;
  return windowed ? attention.window : 0;
}

base::Result<ModelConfig> read_config(const gguf::File& file) {
  const gguf::Metadata& metadata = file.metadata();
  if (!metadata.contains("general.architecture")) {
    return fail(ErrorCode::kCorruptData, "metadata lacks general.architecture");
  }
  CONCLAVE_TRY(const auto name, metadata.get<std::string>("general.architecture"));
  ModelConfig config;
  CONCLAVE_TRY(config.architecture, find_architecture(name));
  CONCLAVE_TRY(config.name, metadata.get_or<std::string>("general.name", ""));
  const Keys keys(metadata, name);
  CONCLAVE_TRY(const auto experts, keys.number_or("expert_count", 0, kExpertsMax));
  if (experts == 0) {
    return fail(ErrorCode::kUnimplemented,
                "a dense '" + name + "' model: Conclave serves Mixture-of-Experts models");
  }
  CONCLAVE_TRY(config.layers, keys.number("block_count", 1, kLayersMax));
  CONCLAVE_TRY(config.context_length, keys.number("context_length", 1, kContextMax));
  CONCLAVE_TRY(config.hidden, keys.number("embedding_length", 1, kWidthMax));
  CONCLAVE_TRY(config.norm_eps, keys.real_or("attention.layer_norm_rms_epsilon", 1e-6f));
  const gguf::TensorInfo* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2 || embedding->shape[1] > kContextMax) {
    return fail(ErrorCode::kCorruptData, "no usable tensor token_embd.weight");
  }
  config.vocab = static_cast<std::uint32_t>(embedding->shape[1]);

  AttentionConfig& attention = config.attention;
  CONCLAVE_TRY(attention.heads, keys.number("attention.head_count", 1, kWidthMax));
  CONCLAVE_TRY(attention.window, keys.number_or("attention.sliding_window", 0, kContextMax));
  CONCLAVE_TRY(config.rope.dimensions, keys.number_or("rope.dimension_count", 0, kWidthMax));
  if (config.architecture->attention == AttentionKind::kLatent) {
    CONCLAVE_TRY_VOID(read_latent(keys, attention, config.rope.dimensions));
  } else {
    CONCLAVE_TRY_VOID(read_grouped(keys, config.hidden, attention));
    if (config.rope.dimensions == 0) config.rope.dimensions = attention.key_dim;
    if (config.rope.dimensions > attention.key_dim) {
      return fail(ErrorCode::kCorruptData, "rope.dimension_count exceeds the head");
    }
  }
  if (config.rope.dimensions % 2 != 0 || config.rope.dimensions == 0) {
    return fail(ErrorCode::kCorruptData, "rope.dimension_count must be even and not 0");
  }
  if (std::uint64_t{attention.heads} * (attention.key_dim + attention.value_dim) > 4 * kWidthMax) {
    return fail(ErrorCode::kCorruptData, "the attention heads are absurdly wide");
  }
  CONCLAVE_TRY_VOID(
      read_rope(keys, *config.architecture, attention, config.context_length, config.rope));
  CONCLAVE_TRY_VOID(read_gate(keys, config, config.gate));
  CONCLAVE_TRY_VOID(read_ffn(keys, file, config));
  CONCLAVE_TRY_VOID(refuse_unknown(keys, file, config));
  return config;
}

}  // namespace conclave::model
