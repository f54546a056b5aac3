#include "conclave/app/version.hpp"

namespace conclave::app {

std::string_view version() { return CONCLAVE_VERSION; }

}  // namespace conclave::app
