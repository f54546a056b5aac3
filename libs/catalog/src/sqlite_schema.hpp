// The tables of the catalog, and how an older database becomes a newer one.
#pragma once

#include <span>

#include "sqlite.hpp"

namespace conclave::catalog {

/// In a database's header (PRAGMA application_id): "CNCL".
inline constexpr std::int64_t kApplicationId = 0x434e434c;

/// Step i makes schema i + 1 of schema i.
std::span<const char* const> sqlite_steps();

/// The newest schema that this program knows; PRAGMA user_version.
std::int64_t schema_version();

/// Brings the database to schema_version(), one numbered step after the other, all in one
/// transaction. kFailedPrecondition: it is newer, or not ours.
base::Status migrate(sqlite::Database& database);

}  // namespace conclave::catalog
