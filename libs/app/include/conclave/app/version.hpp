// The version of the programs that are built from this tree.
#pragma once

#include <string_view>

namespace conclave::app {

/// "0.1.0".
std::string_view version();

}  // namespace conclave::app
