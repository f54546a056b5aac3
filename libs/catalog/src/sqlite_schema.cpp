#include "sqlite_schema.hpp"

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
    R"sql(
ALTER TABLE model ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE model ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE model ADD COLUMN versions INTEGER NOT NULL DEFAULT 0;
-- Rises only: numbers of removed versions, and of a model that was removed, are not used again.
ALTER TABLE model ADD COLUMN next_number INTEGER NOT NULL DEFAULT 1;
ALTER TABLE model ADD COLUMN removed INTEGER NOT NULL DEFAULT 0 CHECK (removed IN (0, 1));
ALTER TABLE model ADD COLUMN created_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE model ADD COLUMN updated_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE model ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE model SET (versions, next_number, created_unix_ms, updated_unix_ms) =
  (SELECT count(*), coalesce(max(number), 0) + 1, coalesce(min(created_unix_ms), 0),
          coalesce(min(created_unix_ms), 0)
   FROM version WHERE model_id = model.id);

-- The model's name again: pages are read by (name, number) from one index.
ALTER TABLE version ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN state TEXT NOT NULL DEFAULT 'published'
  CHECK (state IN ('draft', 'published', 'archived'));
ALTER TABLE version ADD COLUMN more_uris TEXT NOT NULL DEFAULT '[]';
ALTER TABLE version ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN licence TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN source_uri TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
ALTER TABLE version ADD COLUMN published_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE version ADD COLUMN archived_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE version ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE version SET name = (SELECT name FROM model WHERE id = model_id),
                   published_unix_ms = created_unix_ms;
CREATE INDEX version_published ON version (name, number DESC) WHERE state = 'published';

ALTER TABLE digest ADD COLUMN chat_template TEXT NOT NULL DEFAULT '';

ALTER TABLE alias ADD COLUMN updated_unix_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE alias ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;

-- `body` is JSON: what people wrote.
CREATE TABLE deployment (
  name TEXT PRIMARY KEY,
  body TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  updated_unix_ms INTEGER NOT NULL,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenant (
  name TEXT PRIMARY KEY,
  description TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_key (
  id TEXT PRIMARY KEY,
  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  tenant TEXT NOT NULL REFERENCES tenant (name),
  name TEXT NOT NULL,
  prefix TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('inference', 'read', 'admin')),
  models TEXT NOT NULL,
  created_unix_ms INTEGER NOT NULL,
  expires_unix_ms INTEGER NOT NULL,
  revoked_unix_ms INTEGER NOT NULL,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX api_key_tenant ON api_key (tenant, id);

CREATE TABLE quota (
  tenant TEXT PRIMARY KEY REFERENCES tenant (name),
  requests_per_minute INTEGER NOT NULL,
  tokens_per_minute INTEGER NOT NULL,
  tokens_per_day INTEGER NOT NULL,
  tokens_per_month INTEGER NOT NULL,
  concurrent_requests INTEGER NOT NULL,
  revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A row of each day for every key and model, and for all keys, all models, all of both (of one
-- tenant or of all): '' is "all". So any question by day reads as many rows as it has days.
CREATE TABLE usage (
  tenant TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  day INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  expert_pairs INTEGER NOT NULL,
  device_us INTEGER NOT NULL,
  PRIMARY KEY (tenant, key_id, model, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_of_tenants ON usage (model, day, tenant) WHERE key_id = '';

CREATE TABLE usage_batch (
  id TEXT PRIMARY KEY,
  added_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_batch_age ON usage_batch (added_unix_ms);

CREATE TABLE audit (
  sequence INTEGER PRIMARY KEY,
  at_unix_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,
  request_id TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  before TEXT NOT NULL,
  after TEXT NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- The last change, and the sum of its audit record: a chain that lost its end is found.
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO state (id, revision, hash) VALUES (1, 0, zeroblob(32));

CREATE TABLE lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  token INTEGER NOT NULL,
  expires_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER audit_kept BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit records never change'); END;
CREATE TRIGGER audit_never_deleted BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'audit records are never deleted'); END;
CREATE TRIGGER version_frozen
  BEFORE UPDATE OF model_id, number, name, sha256, bytes, architecture, block_types, parameters,
    context_length, layers, dense_layers, experts, experts_used, expert_bytes, backbone_bytes,
    created_unix_ms ON version
  BEGIN SELECT RAISE(ABORT, 'what a version is made of never changes'); END;
CREATE TRIGGER version_notes_frozen
  BEFORE UPDATE OF description, licence, source_uri, parent, metadata ON version
  WHEN OLD.state <> 'draft'
  BEGIN SELECT RAISE(ABORT, 'only a draft may be described anew, a published version never'); END;
CREATE TRIGGER version_kept BEFORE DELETE ON version WHEN OLD.state = 'published'
  BEGIN SELECT RAISE(ABORT, 'a published version is never deleted'); END;
CREATE TRIGGER version_never_drafted BEFORE UPDATE OF state ON version
  WHEN OLD.state <> 'draft' AND NEW.state = 'draft'
  BEGIN SELECT RAISE(ABORT, 'a published version never becomes a draft'); END;
CREATE TRIGGER digest_frozen BEFORE UPDATE ON digest
  BEGIN SELECT RAISE(ABORT, 'sums never change'); END;
)sql",
    R"sql(
CREATE TABLE operation (
  id TEXT PRIMARY KEY,
  what TEXT NOT NULL,
  subject TEXT NOT NULL,
  request TEXT NOT NULL,
  owner TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  percent INTEGER NOT NULL,
  result TEXT NOT NULL,
  error_code TEXT NOT NULL,
  error TEXT NOT NULL,
  started_unix_ms INTEGER NOT NULL,
  beat_unix_ms INTEGER NOT NULL,
  ended_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_started ON operation (started_unix_ms DESC, id DESC);
)sql",
    R"sql(
CREATE TABLE lease_state (
  name TEXT PRIMARY KEY,
  revision INTEGER NOT NULL,
  data BLOB NOT NULL
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

std::span<const char* const> sqlite_steps() { return kSteps; }

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
