#include "conclave/engine/memory_needs.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "conclave/model/kv_pool.hpp"
#include "conclave/model/weight_bytes.hpp"

namespace conclave::engine {
namespace {

// Decimal, as files and memory are sold: "1.52 GB", "17.3 MB".
std::string readable(std::uint64_t bytes) {
  constexpr std::array kUnits = {"bytes", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  std::array<char, 32> text{};
  const int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  std::snprintf(text.data(), text.size(), "%.*f %s", digits, value, kUnits[unit]);
  return text.data();
}

std::uint64_t kv_tokens(const BatcherOptions& options) {
  return std::max<std::uint64_t>(1, model::kv_blocks_of(options.kv_tokens_max)) *
         model::kKvBlockTokens;
}

}  // namespace

base::Result<MemoryNeed> backbone_need(const gguf::File& file, const model::ModelConfig& config) {
  CONCLAVE_TRY(const std::size_t bytes, model::packed_backbone_bytes(file, config));
  return MemoryNeed{"the backbone", bytes};
}

base::Result<MemoryNeed> experts_need(const gguf::File& file, const model::ModelConfig& config) {
  CONCLAVE_TRY(const std::size_t bytes, model::packed_experts_bytes(file, config));
  return MemoryNeed{"the experts", bytes};
}

MemoryNeed kv_need(const model::ModelConfig& config, const BatcherOptions& options) {
  const std::uint64_t token =
      model::KvPool::block_bytes(config, options.kv_type) / model::kKvBlockTokens;
  const std::uint64_t tokens = kv_tokens(options);
  return {"keys and values (" + std::to_string(tokens) + " tokens of " + std::to_string(token) +
              " bytes)",
          tokens * token};
}

// A row has its activations around the experts, what attention makes of it, and those of each of
// its experts; twice, since rows travel and are quantised.
MemoryNeed step_need(const model::ModelConfig& config, const BatcherOptions& options) {
  const model::AttentionConfig& attention = config.attention;
  const std::uint64_t around = 6 * std::uint64_t{config.hidden};
  const std::uint64_t attended =
      std::uint64_t{attention.heads} * (attention.key_dim + 2 * std::uint64_t{attention.value_dim});
  const std::uint64_t experts =
      config.gate.used * (config.hidden + 2 * std::uint64_t{config.expert_ffn});
  const std::uint64_t rows = options.step_rows_max * 2 * (around + attended + experts);
  const std::uint64_t logits = options.sequences_max * std::uint64_t{config.vocab};
  return {"computing", sizeof(float) * (rows + logits)};
}

base::Status check_memory(std::span<const MemoryNeed> needs, std::uint64_t available,
                          std::string_view advice) {
  std::uint64_t sum = 0;
  std::string parts;
  for (const MemoryNeed& need : needs) {
    if (__builtin_add_overflow(sum, need.bytes, &sum)) sum = ~std::uint64_t{0};
    parts += (parts.empty() ? "" : ", ") + readable(need.bytes) + " for " + need.what;
  }
  if (sum <= available) return {};
  return base::fail(base::ErrorCode::kFailedPrecondition,
                    "needs " + readable(sum) + " of memory (" + parts + "), " +
                        readable(available) + " are available: " + std::string(advice));
}

}  // namespace conclave::engine
