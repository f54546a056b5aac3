// What tells one open MoE architecture from another, as a table of choices. The forward pass has
// one attention, one gate and one expert function that read these; it names no architecture.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::model {

enum class RopeStyle {
  kNorm,  // rotates adjacent pairs (x0, x1), (x2, x3), ..
  kNeox,  // rotates halves (x0, x[d/2]), (x1, x[d/2 + 1]), ..
};

/// RMS norm of queries and keys before RoPE.
enum class QkNorm {
  kNone,
  kPerHead,    // one weight of head_dim for every head
  kFullWidth,  // one weight over all heads together
};

enum class AttentionKind {
  kGrouped,  // MHA, GQA, MQA
  kLatent,   // MLA: keys and values are projections of one small cached row
};

/// What a gate does to its logits before it picks. Numbers are GGUF's `expert_gating_func`.
enum class GateFunction {
  kSoftmax = 1,
  kSigmoid = 2,
  kSoftmaxOfSelected = 3,  // picks by logit, softmax over the picked ones
};

enum class ExpertActivation {
  kSwiglu,         // silu(gate) * up
  kSwigluClamped,  // gpt-oss: clamped, alpha 1.702, (up + 1)
};

/// Whether the weights of the picked experts are divided by their sum.
enum class WeightNorm { kAlways, kNever, kFromMetadata };

/// Which layers look back over `attention.sliding_window` tokens only.
enum class WindowPattern { kNone, kEvenLayers };

struct Architecture {
  std::string_view name;  // `general.architecture` of the file
  RopeStyle rope = RopeStyle::kNeox;
  QkNorm qk_norm = QkNorm::kNone;
  AttentionKind attention = AttentionKind::kGrouped;
  WindowPattern window = WindowPattern::kNone;
  GateFunction gate = GateFunction::kSoftmax;  // unless the file names another
  WeightNorm weight_norm = WeightNorm::kAlways;
  ExpertActivation activation = ExpertActivation::kSwiglu;
  std::string_view ffn_norm = "ffn_norm";  // the tensor that normalises the FFN's input
};

std::span<const Architecture> architectures();

/// kUnimplemented, with the names that are known, for any other.
base::Result<const Architecture*> find_architecture(std::string_view name);

}  // namespace conclave::model
