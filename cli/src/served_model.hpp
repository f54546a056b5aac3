// What `up` and `serve` check of a model file before they start anything, and the reference under
// which its registry will know it.
#pragma once

#include <filesystem>
#include <string>

#include "conclave/base/result.hpp"

namespace conclave::cli {

/// "name@current". Errors of gguf::File::open, model::read_config and catalog::derive_name: what no
/// service could serve is refused here, with the reason, at once.
base::Result<std::string> served_reference(const std::filesystem::path& model);

}  // namespace conclave::cli
