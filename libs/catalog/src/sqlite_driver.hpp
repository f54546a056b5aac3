// The store's database in one SQLite file: for one machine, and for a registry that needs no
// PostgreSQL.
#pragma once

#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/catalog/open.hpp"
#include "sql.hpp"

namespace conclave::catalog {

/// One connection, which also writes; the file is in WAL mode, so that other processes may read and
/// write it at the same time. ":memory:" makes a database that is gone with the driver. Errors as
/// open_catalog.
base::Result<std::unique_ptr<sql::Driver>> open_sqlite(const std::string& path,
                                                       const CatalogOptions& options);

}  // namespace conclave::catalog
