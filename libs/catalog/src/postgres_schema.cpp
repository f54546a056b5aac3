#include "postgres_schema.hpp"

namespace conclave::catalog {
namespace {

// Steps are never changed once released: only added. Text sorts by its bytes, as SQLite's does.
constexpr const char* kSteps[] = {
    R"sql(
CREATE TABLE model (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE version (
  model_id BIGINT NOT NULL REFERENCES model (id),
  number BIGINT NOT NULL CHECK (number BETWEEN 1 AND 4294967295),
  sha256 TEXT COLLATE "C" NOT NULL CHECK (length(sha256) = 64),
  uri TEXT COLLATE "C" NOT NULL,
  bytes BIGINT NOT NULL,
  architecture TEXT COLLATE "C" NOT NULL,
  block_types TEXT COLLATE "C" NOT NULL,
  parameters BIGINT NOT NULL,
  context_length BIGINT NOT NULL,
  layers BIGINT NOT NULL,
  dense_layers BIGINT NOT NULL,
  experts BIGINT NOT NULL,
  experts_used BIGINT NOT NULL,
  expert_bytes BIGINT NOT NULL,
  backbone_bytes BIGINT NOT NULL,
  created_unix_ms BIGINT NOT NULL,
  PRIMARY KEY (model_id, number),
  UNIQUE (model_id, sha256)
);

-- Apart from `version`: listings should not read megabytes of sums. `expert` has 32 bytes for each
-- (layer, index), layer 0 first.
CREATE TABLE digest (
  model_id BIGINT NOT NULL,
  number BIGINT NOT NULL,
  backbone BYTEA NOT NULL CHECK (length(backbone) = 32),
  expert BYTEA NOT NULL,
  PRIMARY KEY (model_id, number),
  FOREIGN KEY (model_id, number) REFERENCES version (model_id, number)
);

CREATE TABLE alias (
  model_id BIGINT NOT NULL,
  name TEXT COLLATE "C" NOT NULL,
  number BIGINT NOT NULL,
  PRIMARY KEY (model_id, name),
  FOREIGN KEY (model_id, number) REFERENCES version (model_id, number)
);
)sql",
    R"sql(
ALTER TABLE model ADD COLUMN description TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE model ADD COLUMN tags TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE model ADD COLUMN versions BIGINT NOT NULL DEFAULT 0;
-- Rises only: numbers of removed versions, and of a model that was removed, are not used again.
ALTER TABLE model ADD COLUMN next_number BIGINT NOT NULL DEFAULT 1;
ALTER TABLE model ADD COLUMN removed BIGINT NOT NULL DEFAULT 0 CHECK (removed IN (0, 1));
ALTER TABLE model ADD COLUMN created_unix_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE model ADD COLUMN updated_unix_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE model ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
UPDATE model SET (versions, next_number, created_unix_ms, updated_unix_ms) =
  (SELECT count(*), coalesce(max(number), 0) + 1, coalesce(min(created_unix_ms), 0),
          coalesce(min(created_unix_ms), 0)
   FROM version WHERE model_id = model.id);

-- The model's name again: pages are read by (name, number) from one index.
ALTER TABLE version ADD COLUMN name TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN state TEXT COLLATE "C" NOT NULL DEFAULT 'published'
  CHECK (state IN ('draft', 'published', 'archived'));
ALTER TABLE version ADD COLUMN more_uris TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE version ADD COLUMN description TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN licence TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN source_uri TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN parent TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE version ADD COLUMN metadata TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE version ADD COLUMN published_unix_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE version ADD COLUMN archived_unix_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE version ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
UPDATE version SET name = (SELECT name FROM model WHERE id = model_id),
                   published_unix_ms = created_unix_ms;
CREATE INDEX version_published ON version (name, number DESC) WHERE state = 'published';

ALTER TABLE digest ADD COLUMN chat_template TEXT COLLATE "C" NOT NULL DEFAULT '';

ALTER TABLE alias ADD COLUMN updated_unix_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alias ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;

-- `body` is JSON: what people wrote.
CREATE TABLE deployment (
  name TEXT COLLATE "C" PRIMARY KEY,
  body TEXT COLLATE "C" NOT NULL,
  created_unix_ms BIGINT NOT NULL,
  updated_unix_ms BIGINT NOT NULL,
  revision BIGINT NOT NULL
);

CREATE TABLE tenant (
  name TEXT COLLATE "C" PRIMARY KEY,
  description TEXT COLLATE "C" NOT NULL,
  created_unix_ms BIGINT NOT NULL,
  revision BIGINT NOT NULL
);

CREATE TABLE api_key (
  id TEXT COLLATE "C" PRIMARY KEY,
  hash BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
  tenant TEXT COLLATE "C" NOT NULL REFERENCES tenant (name),
  name TEXT COLLATE "C" NOT NULL,
  prefix TEXT COLLATE "C" NOT NULL,
  role TEXT COLLATE "C" NOT NULL CHECK (role IN ('inference', 'read', 'admin')),
  models TEXT COLLATE "C" NOT NULL,
  created_unix_ms BIGINT NOT NULL,
  expires_unix_ms BIGINT NOT NULL,
  revoked_unix_ms BIGINT NOT NULL,
  revision BIGINT NOT NULL
);
CREATE INDEX api_key_tenant ON api_key (tenant, id);

CREATE TABLE quota (
  tenant TEXT COLLATE "C" PRIMARY KEY REFERENCES tenant (name),
  requests_per_minute BIGINT NOT NULL,
  tokens_per_minute BIGINT NOT NULL,
  tokens_per_day BIGINT NOT NULL,
  tokens_per_month BIGINT NOT NULL,
  concurrent_requests BIGINT NOT NULL,
  revision BIGINT NOT NULL
);

-- A row of each day for every key and model, and for all keys, all models, all of both (of one
-- tenant or of all): '' is "all". So any question by day reads as many rows as it has days.
CREATE TABLE usage (
  tenant TEXT COLLATE "C" NOT NULL,
  key_id TEXT COLLATE "C" NOT NULL,
  model TEXT COLLATE "C" NOT NULL,
  day BIGINT NOT NULL,
  requests BIGINT NOT NULL,
  prompt_tokens BIGINT NOT NULL,
  completion_tokens BIGINT NOT NULL,
  expert_pairs BIGINT NOT NULL,
  device_us BIGINT NOT NULL,
  PRIMARY KEY (tenant, key_id, model, day)
);
CREATE INDEX usage_of_tenants ON usage (model, day, tenant) WHERE key_id = '';

CREATE TABLE usage_batch (
  id TEXT COLLATE "C" PRIMARY KEY,
  added_unix_ms BIGINT NOT NULL
);
CREATE INDEX usage_batch_age ON usage_batch (added_unix_ms);

CREATE TABLE audit (
  sequence BIGINT PRIMARY KEY,
  at_unix_ms BIGINT NOT NULL,
  actor TEXT COLLATE "C" NOT NULL,
  request_id TEXT COLLATE "C" NOT NULL,
  action TEXT COLLATE "C" NOT NULL,
  subject TEXT COLLATE "C" NOT NULL,
  before TEXT COLLATE "C" NOT NULL,
  after TEXT COLLATE "C" NOT NULL,
  hash BYTEA NOT NULL CHECK (length(hash) = 32)
);

-- The last change, and the sum of its audit record: a chain that lost its end is found.
CREATE TABLE state (
  id BIGINT PRIMARY KEY CHECK (id = 1),
  revision BIGINT NOT NULL,
  hash BYTEA NOT NULL CHECK (length(hash) = 32)
);
INSERT INTO state (id, revision, hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

CREATE TABLE lease (
  name TEXT COLLATE "C" PRIMARY KEY,
  holder TEXT COLLATE "C" NOT NULL,
  token BIGINT NOT NULL,
  expires_unix_ms BIGINT NOT NULL
);

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_kept BEFORE UPDATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse('audit records never change');
CREATE TRIGGER audit_never_deleted BEFORE DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse('audit records are never deleted');
CREATE TRIGGER version_frozen
  BEFORE UPDATE OF model_id, number, name, sha256, bytes, architecture, block_types, parameters,
    context_length, layers, dense_layers, experts, experts_used, expert_bytes, backbone_bytes,
    created_unix_ms ON version
  FOR EACH ROW EXECUTE FUNCTION refuse('what a version is made of never changes');
CREATE TRIGGER version_notes_frozen
  BEFORE UPDATE OF description, licence, source_uri, parent, metadata ON version
  FOR EACH ROW WHEN (OLD.state <> 'draft')
  EXECUTE FUNCTION refuse('only a draft may be described anew, a published version never');
CREATE TRIGGER version_kept BEFORE DELETE ON version
  FOR EACH ROW WHEN (OLD.state = 'published')
  EXECUTE FUNCTION refuse('a published version is never deleted');
CREATE TRIGGER version_never_drafted BEFORE UPDATE OF state ON version
  FOR EACH ROW WHEN (OLD.state <> 'draft' AND NEW.state = 'draft')
  EXECUTE FUNCTION refuse('a published version never becomes a draft');
CREATE TRIGGER digest_frozen BEFORE UPDATE ON digest
  FOR EACH ROW EXECUTE FUNCTION refuse('sums never change');

-- In the transaction of the change: watchers hear of it when, and only when, it is committed.
CREATE FUNCTION tell_watchers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('conclave_catalog', NEW.revision::text);
  RETURN NULL;
END $$;
CREATE TRIGGER state_told AFTER UPDATE ON state
  FOR EACH ROW EXECUTE FUNCTION tell_watchers();
)sql",
    R"sql(
CREATE TABLE operation (
  id TEXT COLLATE "C" PRIMARY KEY,
  what TEXT COLLATE "C" NOT NULL,
  subject TEXT COLLATE "C" NOT NULL,
  request TEXT COLLATE "C" NOT NULL,
  owner TEXT COLLATE "C" NOT NULL,
  state TEXT COLLATE "C" NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  percent BIGINT NOT NULL,
  result TEXT COLLATE "C" NOT NULL,
  error_code TEXT COLLATE "C" NOT NULL,
  error TEXT COLLATE "C" NOT NULL,
  started_unix_ms BIGINT NOT NULL,
  beat_unix_ms BIGINT NOT NULL,
  ended_unix_ms BIGINT NOT NULL
);
CREATE INDEX operation_started ON operation (started_unix_ms DESC, id DESC);
)sql",
    R"sql(
CREATE TABLE lease_state (
  name TEXT COLLATE "C" PRIMARY KEY,
  revision BIGINT NOT NULL,
  data BYTEA NOT NULL
);
)sql",
};

}  // namespace

std::span<const char* const> postgres_steps() { return kSteps; }

}  // namespace conclave::catalog
