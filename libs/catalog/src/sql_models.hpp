// Names under which versions are.
#pragma once

#include <cstdint>
#include <string>

#include "sql_catalog.hpp"

namespace conclave::catalog {

struct ModelRow {
  std::int64_t id = 0;
  std::uint32_t next_number = 0;  // 0: there is none left
};

/// Finds the model, makes it, or brings a removed one back with the numbers that are left.
base::Result<ModelRow> ensure_model(Writer& writer, const std::string& name);

}  // namespace conclave::catalog
