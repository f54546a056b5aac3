#include "bench_token_cost.hpp"

#include <cctype>
#include <string_view>

namespace conclave::cli {
namespace {

// Stacked (`blk.0.ffn_up_exps.weight`) or one tensor an expert (`blk.0.ffn_up.3.weight`).
bool is_expert(std::string_view name) {
  if (name.find("_exps.") != std::string_view::npos) return true;
  const auto ffn = name.find(".ffn_");
  if (ffn == std::string_view::npos) return false;
  const auto dot = name.find('.', ffn + 1);
  return dot != std::string_view::npos && dot + 1 < name.size() &&
         std::isdigit(static_cast<unsigned char>(name[dot + 1])) != 0;
}

}  // namespace

TokenCost token_cost(const gguf::File& file, const model::ModelConfig& config) {
  const bool tied = file.find("output.weight") == nullptr;
  const double used = config.gate.experts == 0 ? 0.0
                                               : static_cast<double>(config.gate.used) /
                                                     static_cast<double>(config.gate.experts);
  TokenCost cost;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const auto bytes = static_cast<double>(tensor.range.size);
    const auto weights = static_cast<double>(tensor.elements());
    const bool embeds = tensor.name == "token_embd.weight";
    if (is_expert(tensor.name)) {
      cost.decode_bytes += bytes * used;
      cost.prompt_ops += 2.0 * weights * used;
    } else if (tensor.name == "output.weight" || (embeds && tied)) {
      cost.decode_bytes += bytes;
    } else if (embeds) {
      cost.decode_bytes += bytes / static_cast<double>(config.vocab);
    } else {
      cost.decode_bytes += bytes;
      cost.prompt_ops += 2.0 * weights;
    }
  }
  return cost;
}

}  // namespace conclave::cli
