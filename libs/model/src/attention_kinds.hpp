// The two kinds of attention; load_attention() picks one.
#pragma once

#include <memory>

#include "conclave/model/attention.hpp"

namespace conclave::model {

base::Result<std::unique_ptr<Attention>> load_grouped_attention(const TensorReader& reader,
                                                                const ModelConfig& config,
                                                                const Rope& rope,
                                                                std::uint32_t layer);
base::Result<std::unique_ptr<Attention>> load_latent_attention(const TensorReader& reader,
                                                               const ModelConfig& config,
                                                               const Rope& rope,
                                                               std::uint32_t layer);

}  // namespace conclave::model
