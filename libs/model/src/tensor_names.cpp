#include "tensor_names.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "conclave/base/text.hpp"

namespace conclave::model {
namespace {

using Names = std::span<const std::string_view>;

constexpr std::string_view kGlobals[] = {"token_embd.weight", "output_norm.weight", "output.weight",
                                         "output.bias", "rope_freqs.weight"};

// Matrices, with an optional bias each; then what has one form only.
constexpr std::string_view kGroupedMatrices[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
constexpr std::string_view kGroupedVectors[] = {"attn_norm.weight", "attn_sinks.weight"};
constexpr std::string_view kQkNorms[] = {"attn_q_norm.weight", "attn_k_norm.weight"};
constexpr std::string_view kLatentMatrices[] = {"attn_q", "attn_q_a", "attn_q_b", "attn_kv_a_mqa",
                                                "attn_output"};
constexpr std::string_view kLatentVectors[] = {"attn_norm.weight",      "attn_q_a_norm.weight",
                                               "attn_kv_a_norm.weight", "attn_kv_b.weight",
                                               "attn_k_b.weight",       "attn_v_b.weight"};
constexpr std::string_view kDenseMatrices[] = {"ffn_gate", "ffn_up", "ffn_down"};
constexpr std::string_view kExpertMatrices[] = {
    "ffn_gate_inp",     "ffn_gate_exps",  "ffn_up_exps",  "ffn_down_exps",
    "ffn_gate_up_exps", "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"};
constexpr std::string_view kExpertVectors[] = {"exp_probs_b.bias", "ffn_gate_inp_shexp.weight"};

bool is_in(Names names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_matrix_in(Names names, std::string_view name) {
  for (const std::string_view end : {".weight", ".bias"}) {
    if (name.ends_with(end) && is_in(names, name.substr(0, name.size() - end.size()))) return true;
  }
  return false;
}

// Takes a decimal number off the front of `text`; false if there is none.
bool take_number(std::string_view& text, std::uint32_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return error == std::errc{};
}

// "ffn_up.3.weight": one tensor an expert.
bool is_single_expert(std::string_view name, std::uint32_t experts) {
  for (const std::string_view matrix : kDenseMatrices) {
    if (!name.starts_with(matrix)) continue;
    std::string_view rest = name.substr(matrix.size());
    std::uint32_t expert = 0;
    if (!rest.starts_with('.')) continue;
    rest.remove_prefix(1);
    if (take_number(rest, expert) && expert < experts && rest == ".weight") return true;
  }
  return false;
}

bool is_known_in_layer(const ModelConfig& config, std::uint32_t layer, std::string_view name) {
  const Architecture& architecture = *config.architecture;
  const bool latent = architecture.attention == AttentionKind::kLatent;
  if (is_matrix_in(latent ? Names(kLatentMatrices) : Names(kGroupedMatrices), name)) return true;
  if (is_in(latent ? Names(kLatentVectors) : Names(kGroupedVectors), name)) return true;
  if (architecture.qk_norm != QkNorm::kNone && is_in(kQkNorms, name)) return true;
  if (name == std::string(architecture.ffn_norm) + ".weight") return true;
  if (!config.has_experts(layer)) return is_matrix_in(kDenseMatrices, name);
  return is_matrix_in(kExpertMatrices, name) || is_in(kExpertVectors, name) ||
         is_single_expert(name, config.gate.experts);
}

bool is_known(const ModelConfig& config, std::string_view name) {
  if (is_in(kGlobals, name)) return true;
  std::uint32_t layer = 0;
  if (!name.starts_with("blk.")) return false;
  name.remove_prefix(4);
  if (!take_number(name, layer) || layer >= config.layers || !name.starts_with('.')) return false;
  return is_known_in_layer(config, layer, name.substr(1));
}

}  // namespace

base::Status check_tensor_names(const gguf::File& file, const ModelConfig& config) {
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    if (is_known(config, tensor.name)) continue;
    return base::fail(base::ErrorCode::kUnimplemented,
                      "tensor " + base::shown(tensor.name) + " of an " +
                          std::string(config.architecture->name) +
                          " model is not supported: leaving it out would change what it says");
  }
  return {};
}

}  // namespace conclave::model
