// The tables of the catalog in PostgreSQL, and how older ones become newer ones.
#pragma once

#include <cstdint>
#include <span>

namespace conclave::catalog {

/// Step i makes schema i + 1 of schema i; a step is several statements. The numbers are those of
/// SQLite's schemas, so that "schema 2" is the same tables in both.
std::span<const char* const> postgres_steps();

/// What a schema `conclave` without tables has: the number of its steps, 0.
inline constexpr const char* kMakeSchemaTable =
    "CREATE TABLE IF NOT EXISTS schema_version (id INTEGER PRIMARY KEY CHECK (id = 1),"
    " version BIGINT NOT NULL)";

/// Held while steps are applied: "CNCL", as SQLite's files have in their header.
inline constexpr std::int64_t kMigrationLock = 0x434e434c;

/// NOTIFY goes here with each change, with the revision as its text.
inline constexpr const char* kChannel = "conclave_catalog";

}  // namespace conclave::catalog
