// The store's database in PostgreSQL: a bounded pool of connections, transactions that are repeated
// when they collided or lost their connection, migrations, and watchers.
#pragma once

#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/catalog/open.hpp"
#include "sql.hpp"

namespace conclave::catalog {

/// Makes or migrates the schema. Errors as open_catalog.
base::Result<std::unique_ptr<sql::Driver>> open_postgres(const std::string& url,
                                                         const CatalogOptions& options);

}  // namespace conclave::catalog
