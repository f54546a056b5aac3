#include "schema.hpp"

#include <iterator>

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Status;

// Step i makes schema i + 1 of schema i. Steps are never changed once released: only added.
constexpr const char* kSteps[] = {
    R"sql(
CREATE TABLE model (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE version (
  model_id INTEGER NOT NULL REFERENCES model (id),
  number INTEGER NOT NULL CHECK (number BETWEEN 1 AND 4294967295),
  sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
  uri TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  architecture TEXT NOT NULL,
  block_types TEXT NOT NULL,
  parameters INTEGER NOT NULL,
  context_length INTEGER NOT NULL,
  layers INTEGER NOT NULL,
  dense_layers INTEGER NOT NULL,
  experts INTEGER NOT NULL,
  experts_used INTEGER NOT NULL,
  expert_bytes INTEGER NOT NULL,
  backbone_bytes INTEGER NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  PRIMARY KEY (model_id, number),
  UNIQUE (model_id, sha256)
) STRICT, WITHOUT ROWID;

-- Apart from `version`: listings should not read megabytes of sums. `expert` has 32 bytes for each
-- (layer, index), layer 0 first.
CREATE TABLE digest (
  model_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  backbone BLOB NOT NULL CHECK (length(backbone) = 32),
  expert BLOB NOT NULL,
  PRIMARY KEY (model_id, number),
  FOREIGN KEY (model_id, number) REFERENCES version (model_id, number)
) STRICT;

CREATE TABLE alias (
  model_id INTEGER NOT NULL,
  name TEXT NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (model_id, name),
  FOREIGN KEY (model_id, number) REFERENCES version (model_id, number)
) STRICT, WITHOUT ROWID;
)sql",
};

Status check_ours(sqlite::Database& database, std::int64_t version) {
  CONCLAVE_TRY(const std::int64_t id, database.integer("PRAGMA application_id"));
  CONCLAVE_TRY(const std::int64_t tables, database.integer("SELECT count(*) FROM sqlite_schema"));
  const bool fresh = id == 0 && version == 0 && tables == 0;
  if (!fresh && id != kApplicationId) {
    return fail(ErrorCode::kFailedPrecondition, "the database is not a catalog of Conclave");
  }
  if (version > schema_version()) {
    return fail(ErrorCode::kFailedPrecondition,
                "the database has schema " + std::to_string(version) +
                    ", and this program knows schemas up to " + std::to_string(schema_version()) +
                    ": run a newer one");
  }
  return {};
}

}  // namespace

std::int64_t schema_version() { return static_cast<std::int64_t>(std::size(kSteps)); }

Status migrate(sqlite::Database& database) {
  // Read inside the transaction: another process may be at the same.
  return database.transaction([&database]() -> Status {
    CONCLAVE_TRY(const std::int64_t version, database.integer("PRAGMA user_version"));
    CONCLAVE_TRY_VOID(check_ours(database, version));
    if (version == schema_version()) return {};
    for (std::int64_t step = version; step < schema_version(); ++step) {
      CONCLAVE_TRY_VOID(database.execute(kSteps[step]));
    }
    CONCLAVE_TRY_VOID(
        database.execute(("PRAGMA application_id = " + std::to_string(kApplicationId)).c_str()));
    return database.execute(("PRAGMA user_version = " + std::to_string(schema_version())).c_str());
  });
}

}  // namespace conclave::catalog
