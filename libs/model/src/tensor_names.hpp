// Which tensors a file may have: exactly those that the loaders read. A tensor that we would leave
// out could be one that the model needs, and its absence would only show as worse text.
#pragma once

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"

namespace conclave::model {

/// kUnimplemented, naming the first tensor that nothing would read.
base::Status check_tensor_names(const gguf::File& file, const ModelConfig& config);

}  // namespace conclave::model
