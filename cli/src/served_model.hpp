// What `up` and `serve` check of a model file before they start anything, and the reference under
// which its registry will know it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "conclave/artifacts/settings.hpp"
#include "conclave/base/result.hpp"
#include "conclave/engine/batcher.hpp"

namespace conclave::cli {

/// The reference, "name@current", of a model that this machine can serve: a path, or the address of
/// one, of which the headers are fetched as `artifacts` says. `routers` have a backbone each, and
/// keys and values as `batch` says. What no service could serve is refused here, with the reason,
/// at once: errors of artifacts::Store::open, model::read_config and catalog::derive_name;
/// kFailedPrecondition if all of it together does not fit the memory that is available.
base::Result<std::string> check_served(const std::string& model,
                                       const artifacts::Settings& artifacts,
                                       const engine::BatcherOptions& batch, std::uint32_t routers);

/// As the services are to know it: an absolute path, or the address as it is.
std::string absolute_model(const std::string& model);

}  // namespace conclave::cli
