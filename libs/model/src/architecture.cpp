#include "conclave/model/architecture.hpp"

#include "conclave/base/text.hpp"

namespace conclave::model {
namespace {

// Conventions as llama.cpp's graphs have them for these names.
constexpr Architecture kArchitectures[] = {
    // Mixtral. The converter permutes q and k so that adjacent pairs rotate.
    {.name = "llama", .rope = RopeStyle::kNorm},
    {.name = "olmoe", .qk_norm = QkNorm::kFullWidth, .weight_norm = WeightNorm::kNever},
    // Qwen1.5-MoE, Qwen2-57B: biases on q, k, v; a shared expert behind a sigmoid gate of its own.
    {.name = "qwen2moe", .weight_norm = WeightNorm::kNever},
    {.name = "qwen3moe", .qk_norm = QkNorm::kPerHead},
    // DeepSeek V2, V3, R1, Kimi K2.
    {.name = "deepseek2",
     .rope = RopeStyle::kNorm,
     .attention = AttentionKind::kLatent,
     .weight_norm = WeightNorm::kFromMetadata},
    {.name = "gpt-oss",
     .window = WindowPattern::kEvenLayers,
     .gate = GateFunction::kSoftmaxOfSelected,
     .weight_norm = WeightNorm::kNever,
     .activation = ExpertActivation::kSwigluClamped,
     .ffn_norm = "post_attention_norm"},
};

}  // namespace

std::span<const Architecture> architectures() { return kArchitectures; }

base::Result<const Architecture*> find_architecture(std::string_view name) {
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return base::fail(
      base::ErrorCode::kUnimplemented,
      "architecture " + base::shown(name) + " is not supported (known: " + known + ")");
}

}  // namespace conclave::model
