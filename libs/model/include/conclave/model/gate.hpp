// The routing function of every architecture: scores, an optional bias for the choice, groups, the
// k best, and their weights. One function, parameterised by GateConfig.
// Formulas: DeepSeek-V3 (arXiv 2412.19437, section 2.1.2) for bias and groups; llama.cpp's
// build_moe_ffn for the order of steps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "conclave/kernels/kernel_table.hpp"
#include "conclave/model/config.hpp"

namespace conclave::model {

/// The experts of each row, best first, and their weights: (rows, used) each.
struct Routing {
  std::vector<std::uint32_t> experts;
  std::vector<float> weights;
  /// How many experts of each row are not the gate's choice, for want of those: (rows), or empty:
  /// none of any row.
  std::vector<std::uint32_t> replaced;
};

/// Picks the experts of one row. `logits` (experts) is overwritten; `bias` (experts, or empty) is
/// added for the choice only. Equal scores go to the lower index. Writes `used` entries each.
void select_experts(const GateConfig& config, const kernels::KernelTable& kernels, float* logits,
                    std::span<const float> bias, std::uint32_t* experts, float* weights);

/// The same without the experts that `absent` (experts, of 0 and 1) names: in their place come the
/// next best that are there, by the same scores, and the weights of all add up to what they would
/// have. Never replaced is the best expert of all. Returns how many were; 0: the result is that of
/// select_experts, bit for bit. Where too few experts are there, the best one is listed again, with
/// weight 0.
std::uint32_t select_present_experts(const GateConfig& config, const kernels::KernelTable& kernels,
                                     float* logits, std::span<const float> bias,
                                     std::span<const std::uint8_t> absent, std::uint32_t* experts,
                                     float* weights);

}  // namespace conclave::model
