// How much memory a model's weights will take, from its file's tables alone: what is checked before
// anything is loaded, and what loading reserves.
#pragma once

#include <cstddef>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"

namespace conclave::model {

/// Of the matrices of the backbone. Vectors (norms, biases) are not counted, nor are embeddings
/// that no output head is made of: those stay in the file. kCorruptData: tensors that make no
/// matrices.
base::Result<std::size_t> packed_backbone_bytes(const gguf::File& file, const ModelConfig& config);

/// Of all routed experts together. Errors as packed_expert_bytes.
base::Result<std::size_t> packed_experts_bytes(const gguf::File& file, const ModelConfig& config);

}  // namespace conclave::model
