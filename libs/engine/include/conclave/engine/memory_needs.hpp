// What serving a model takes of memory, told before anything is loaded, and the refusal of what
// cannot fit, with the arithmetic. How much there is the caller says (devices/memory_limit.hpp).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/engine/batcher.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/config.hpp"

namespace conclave::engine {

struct MemoryNeed {
  std::string what;  // "the experts": what stands behind "1.3 GB for"
  std::uint64_t bytes = 0;
};

/// Errors of model::packed_backbone_bytes.
base::Result<MemoryNeed> backbone_need(const gguf::File& file, const model::ModelConfig& config);
/// Of all routed experts. Errors of model::packed_experts_bytes.
base::Result<MemoryNeed> experts_need(const gguf::File& file, const model::ModelConfig& config);
/// The pool that make_kv_pool() makes, once all of it has been written.
MemoryNeed kv_need(const model::ModelConfig& config, const BatcherOptions& options);
/// Rows of the largest step and logits of all sequences, about.
MemoryNeed step_need(const model::ModelConfig& config, const BatcherOptions& options);

/// Ok if all of `needs` fit into `available` bytes. kFailedPrecondition otherwise: "needs 5.8 GB
/// (1.5 GB for the experts, 4.3 GB for ..), 3.9 GB are available: " and `advice`.
base::Status check_memory(std::span<const MemoryNeed> needs, std::uint64_t available,
                          std::string_view advice);

}  // namespace conclave::engine
