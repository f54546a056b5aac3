// What `up` and `serve` check of a model file before they start anything, and the reference under
// which its registry will know it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/engine/batcher.hpp"

namespace conclave::cli {

/// The reference, "name@current", of a model that this machine can serve. `routers` have a backbone
/// each, and keys and values as `batch` says. What no service could serve is refused here, with the
/// reason, at once: errors of gguf::File::open, model::read_config and catalog::derive_name;
/// kFailedPrecondition if all of it together does not fit the memory that is available.
base::Result<std::string> check_served(const std::filesystem::path& model,
                                       const engine::BatcherOptions& batch, std::uint32_t routers);

}  // namespace conclave::cli
