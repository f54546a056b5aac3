// Who we are to an S3 server.
#pragma once

#include <cstddef>
#include <string>

#include "conclave/artifacts/settings.hpp"
#include "conclave/base/result.hpp"
#include "sigv4.hpp"

namespace conclave::artifacts {

/// Files of credentials have some dozen lines.
inline constexpr std::size_t kCredentialLinesMax = 1000;

/// Of the environment, else of the settings' file, else none. Asked for every object anew, since
/// keys of a session change. kFailedPrecondition: the file has none.
base::Result<Credentials> find_credentials(const Settings& settings);

/// The section [default] of a file as ~/.aws/credentials is.
base::Result<Credentials> read_credentials(const std::string& path);

}  // namespace conclave::artifacts
