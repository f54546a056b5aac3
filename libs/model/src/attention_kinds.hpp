// The two kinds of attention; load_attention() picks one.
#pragma once

#include <memory>

#include "conclave/model/attention.hpp"

namespace conclave::model {

base::Result<std::unique_ptr<Attention>> load_grouped_attention(const gguf::File& file,
                                                                const ModelConfig& config,
                                                                const Rope& rope,
                                                                std::uint32_t layer);
base::Result<std::unique_ptr<Attention>> load_latent_attention(const gguf::File& file,
                                                               const ModelConfig& config,
                                                               const Rope& rope,
                                                               std::uint32_t layer);

/// Writes one position's key and value rows (key_dim, value_dim) of a head into its cache block.
void store_kv(const ModelConfig& config, const KvPool& pool, std::uint32_t layer,
              std::uint32_t head, const RowPlace& place, const float* key, const float* value);

}  // namespace conclave::model
