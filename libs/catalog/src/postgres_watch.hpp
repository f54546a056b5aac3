// LISTEN on a connection and a thread of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/catalog/catalog.hpp"
#include "conclave/catalog/open.hpp"

namespace conclave::catalog::postgres {

base::Result<std::unique_ptr<Watch>> start_watch(const std::string& connection_string,
                                                 const CatalogOptions& options,
                                                 std::function<void(std::uint64_t)> changed);

}  // namespace conclave::catalog::postgres
