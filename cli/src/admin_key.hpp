// The administrator's API key of an installation on this machine: a file of the state directory
// that `up` and `serve` make and hand to the registry, and that the other commands read.
#pragma once

#include <filesystem>
#include <string>

#include "conclave/base/result.hpp"

namespace conclave::cli {

inline constexpr const char* kAdminKeyFile = "admin.key";

/// Its secret. kNotFound: there is none; kUnavailable: no right to read it; kCorruptData: it is no
/// secret (empty, of several lines, longer than any).
base::Result<std::string> read_admin_key(const std::filesystem::path& state);

/// Makes the file with a new secret if there is none, for this user alone, and gives its path. The
/// directory is made if need be. kUnavailable: it cannot be written.
base::Result<std::filesystem::path> ensure_admin_key(const std::filesystem::path& state);

}  // namespace conclave::cli
