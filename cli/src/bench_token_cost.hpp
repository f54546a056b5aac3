// What one token costs a model at least: the weights that it must read and multiply.
#pragma once

#include <cstdint>

#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"

namespace conclave::cli {

/// Weights only: reading keys and values and scoring them comes on top, and grows with the context.
struct TokenCost {
  /// Decoding one sequence: backbone, head and the experts that are used, as the file stores them.
  /// Of the embeddings one row, unless they are the head too.
  double decode_bytes = 0.0;
  /// A token of a prompt: two operations for each weight but the head's, which only the last token
  /// of a prompt needs.
  double prompt_ops = 0.0;
};

TokenCost token_cost(const gguf::File& file, const model::ModelConfig& config);

}  // namespace conclave::cli
