#include <boost/json.hpp>

#include "conclave/base/text.hpp"
#include "conclave/catalog/access.hpp"
#include "conclave/catalog/json.hpp"
#include "conclave/catalog/reference.hpp"
#include "sql_catalog.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr sql::Statement kFindTenant{
    "find_tenant",
    "SELECT name, description, created_unix_ms, revision FROM tenant WHERE name = $1"};
constexpr sql::Statement kListTenants{
    "list_tenants",
    "SELECT name, description, created_unix_ms, revision FROM tenant WHERE name > $1"
    " ORDER BY name LIMIT $2"};
constexpr sql::Statement kAddTenant{
    "add_tenant",
    "INSERT INTO tenant (name, description, created_unix_ms, revision) VALUES ($1, $2, $3, $4)"};
constexpr sql::Statement kCountTenants{"count_tenants", "SELECT count(*) FROM tenant"};

#define CONCLAVE_KEY_COLUMNS                                                   \
  "id, tenant, name, prefix, role, models, created_unix_ms, expires_unix_ms, " \
  "revoked_unix_ms, revision"
constexpr sql::Statement kFindKey{"find_key",
                                  "SELECT " CONCLAVE_KEY_COLUMNS " FROM api_key WHERE id = $1"};
constexpr sql::Statement kFindKeyByHash{
    "find_key_by_hash", "SELECT " CONCLAVE_KEY_COLUMNS " FROM api_key WHERE hash = $1"};
constexpr sql::Statement kListKeys{"list_keys", "SELECT " CONCLAVE_KEY_COLUMNS
                                                " FROM api_key WHERE id > $1"
                                                " ORDER BY id LIMIT $2"};
constexpr sql::Statement kListKeysOf{"list_keys_of", "SELECT " CONCLAVE_KEY_COLUMNS
                                                     " FROM api_key WHERE tenant = $1"
                                                     " AND id > $2 ORDER BY id LIMIT $3"};
#undef CONCLAVE_KEY_COLUMNS
constexpr sql::Statement kAddKey{
    "add_key",
    "INSERT INTO api_key (id, hash, tenant, name, prefix, role, models, created_unix_ms,"
    " expires_unix_ms, revoked_unix_ms, revision)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10)"};
constexpr sql::Statement kRevokeKey{
    "revoke_key", "UPDATE api_key SET revoked_unix_ms = $2, revision = $3 WHERE id = $1"};
constexpr sql::Statement kCountKeys{"count_keys", "SELECT count(*) FROM api_key"};

constexpr sql::Statement kFindQuota{
    "find_quota",
    "SELECT tenant, requests_per_minute, tokens_per_minute, tokens_per_day, tokens_per_month,"
    " concurrent_requests, revision FROM quota WHERE tenant = $1"};
constexpr sql::Statement kPutQuota{
    "put_quota",
    "INSERT INTO quota (tenant, requests_per_minute, tokens_per_minute, tokens_per_day,"
    " tokens_per_month, concurrent_requests, revision) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    " ON CONFLICT (tenant) DO UPDATE SET requests_per_minute = excluded.requests_per_minute,"
    " tokens_per_minute = excluded.tokens_per_minute, tokens_per_day = excluded.tokens_per_day,"
    " tokens_per_month = excluded.tokens_per_month,"
    " concurrent_requests = excluded.concurrent_requests, revision = excluded.revision"};

template <class Record>
std::string json_of(const Record& record) {
  return boost::json::serialize(to_json(record));
}

Result<Tenant> find_tenant_in(sql::Session& session, const std::string& name) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindTenant, name));
  if (rows.empty()) {
    return fail(ErrorCode::kNotFound, "there is no tenant " + base::shown(name));
  }
  const sql::Row& row = rows.front();
  return Tenant{row.text(0), row.text(1), row.integer(2), row.large(3)};
}

Status check_room(sql::Session& session, const sql::Statement& count, std::size_t most,
                  const std::string& what) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(count));
  if (rows.front().large(0) < most) return {};
  return fail(ErrorCode::kOverloaded, "there are at most " + std::to_string(most) + " " + what);
}

Result<Tenant> make_tenant(Writer& writer, const std::string& name,
                           const std::string& description) {
  CONCLAVE_TRY_VOID(check_room(writer.sql(), kCountTenants, kTenantsMax, "tenants"));
  const Tenant tenant{name, description, writer.now_unix_ms(), writer.revision()};
  CONCLAVE_TRY_VOID(writer.sql().apply(kAddTenant, tenant.name, tenant.description,
                                       tenant.created_unix_ms, tenant.revision));
  CONCLAVE_TRY_VOID(writer.audit("tenant.create", name, "", json_of(tenant)));
  return tenant;
}

Result<ApiKey> key_of(const sql::Row& row) {
  ApiKey key;
  key.id = row.text(0);
  key.tenant = row.text(1);
  key.name = row.text(2);
  key.prefix = row.text(3);
  const auto role = role_of(row.text(4));
  if (!role) return fail(ErrorCode::kCorruptData, "the key " + key.id + " has no role");
  key.role = *role;
  CONCLAVE_TRY(key.models, list_of(row.text(5)));
  key.created_unix_ms = row.integer(6);
  key.expires_unix_ms = row.integer(7);
  key.revoked_unix_ms = row.integer(8);
  key.revision = row.large(9);
  return key;
}

Result<std::optional<ApiKey>> find_by_hash(sql::Session& session, const wire::Sha256& hash) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindKeyByHash, std::as_bytes(std::span(hash))));
  if (rows.empty()) return std::optional<ApiKey>();
  CONCLAVE_TRY(ApiKey key, key_of(rows.front()));
  return std::optional(std::move(key));
}

Result<ApiKey> find_key_in(sql::Session& session, const std::string& id) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindKey, id));
  if (rows.empty()) return fail(ErrorCode::kNotFound, "there is no key " + base::shown(id));
  return key_of(rows.front());
}

Result<std::vector<ApiKey>> keys_of(const Result<sql::Rows>& rows) {
  if (!rows) return fail(rows.error());
  std::vector<ApiKey> keys;
  for (const sql::Row& row : *rows) {
    CONCLAVE_TRY(ApiKey key, key_of(row));
    keys.push_back(std::move(key));
  }
  return keys;
}

Status check_key(const NewApiKey& key, std::string_view secret) {
  CONCLAVE_TRY_VOID(check_name("tenant", key.tenant));
  CONCLAVE_TRY_VOID(check_text("name", key.name, kTagBytesMax));
  if (key.models.size() > kKeyModelsMax) {
    return fail(ErrorCode::kInvalidArgument,
                "models has more than " + std::to_string(kKeyModelsMax) + " entries");
  }
  for (const std::string& model : key.models) CONCLAVE_TRY_VOID(check_name("models", model));
  if (key.expires_unix_ms < 0) {
    return fail(ErrorCode::kInvalidArgument, "expires_unix_ms is before 1970");
  }
  if (secret.size() < kSecretBytesMin || secret.size() > kSecretBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "a secret has " + std::to_string(kSecretBytesMin) +
                                                 " to " + std::to_string(kSecretBytesMax) +
                                                 " bytes");
  }
  return check_text("secret", secret, kSecretBytesMax);
}

Result<ApiKey> make_key(Writer& writer, const NewApiKey& wanted, std::string_view secret) {
  CONCLAVE_TRY_VOID(check_room(writer.sql(), kCountKeys, kKeysMax, "keys"));
  const wire::Sha256 hash = secret_hash(secret);
  ApiKey key;
  key.id = key_id(hash);
  key.tenant = wanted.tenant;
  key.name = wanted.name;
  key.prefix = secret_prefix(secret);
  key.role = wanted.role;
  key.models = wanted.models;
  key.created_unix_ms = writer.now_unix_ms();
  key.expires_unix_ms = wanted.expires_unix_ms;
  key.revision = writer.revision();
  CONCLAVE_TRY_VOID(writer.sql().apply(kAddKey, key.id, std::as_bytes(std::span(hash)), key.tenant,
                                       key.name, key.prefix, to_string(key.role),
                                       list_text(key.models), key.created_unix_ms,
                                       key.expires_unix_ms, key.revision));
  CONCLAVE_TRY_VOID(writer.audit("key.create", key.id, "", json_of(key)));
  return key;
}

}  // namespace

Result<Tenant> SqlCatalog::create_tenant(const std::string& name, const std::string& description,
                                         const Change& with) {
  CONCLAVE_TRY_VOID(check_name("tenant", name));
  CONCLAVE_TRY_VOID(check_text("description", description, kTextBytesMax));
  return change(with, [&](Writer& writer) -> Result<Tenant> {
    CONCLAVE_TRY(const sql::Rows rows, writer.sql().run(kFindTenant, name));
    if (!rows.empty()) {
      return fail(ErrorCode::kFailedPrecondition, "there is a tenant " + name + " already");
    }
    return make_tenant(writer, name, description);
  });
}

Result<Tenant> SqlCatalog::find_tenant(const std::string& name) {
  CONCLAVE_TRY_VOID(check_name("tenant", name));
  return read([&name](sql::Session& session) { return find_tenant_in(session, name); });
}

Result<std::vector<Tenant>> SqlCatalog::list_tenants(const std::string& after,
                                                     std::uint32_t limit) {
  CONCLAVE_TRY_VOID(check_text("after", after, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_limit(limit));
  return read([&](sql::Session& session) -> Result<std::vector<Tenant>> {
    CONCLAVE_TRY(const sql::Rows rows, session.run(kListTenants, after, limit));
    std::vector<Tenant> tenants;
    for (const sql::Row& row : rows) {
      tenants.push_back({row.text(0), row.text(1), row.integer(2), row.large(3)});
    }
    return tenants;
  });
}

Result<ApiKey> SqlCatalog::create_key(const NewApiKey& key, std::string_view secret,
                                      const Change& with) {
  CONCLAVE_TRY_VOID(check_key(key, secret));
  return change(with, [&](Writer& writer) -> Result<ApiKey> {
    CONCLAVE_TRY_VOID(find_tenant_in(writer.sql(), key.tenant));
    CONCLAVE_TRY(const auto same, find_by_hash(writer.sql(), secret_hash(secret)));
    if (same) {
      return fail(ErrorCode::kFailedPrecondition, "the secret is that of the key " + same->id);
    }
    return make_key(writer, key, secret);
  });
}

Result<ApiKey> SqlCatalog::ensure_key(const NewApiKey& key, std::string_view secret,
                                      const Change& with) {
  CONCLAVE_TRY_VOID(check_key(key, secret));
  return change(with, [&](Writer& writer) -> Result<ApiKey> {
    CONCLAVE_TRY(const auto same, find_by_hash(writer.sql(), secret_hash(secret)));
    if (same) {
      CONCLAVE_TRY_VOID(usable(*same, writer.now_unix_ms()));
      if (same->role == key.role && same->tenant == key.tenant) return *same;
      return fail(ErrorCode::kFailedPrecondition,
                  "the secret is that of the key " + same->id + ", which is of role " +
                      std::string(to_string(same->role)) + " in tenant " + same->tenant);
    }
    CONCLAVE_TRY(const sql::Rows rows, writer.sql().run(kFindTenant, key.tenant));
    if (rows.empty()) CONCLAVE_TRY_VOID(make_tenant(writer, key.tenant, ""));
    return make_key(writer, key, secret);
  });
}

Result<ApiKey> SqlCatalog::find_key(const std::string& id) {
  CONCLAVE_TRY_VOID(check_text("id", id, kActorBytesMax));
  return read([&id](sql::Session& session) { return find_key_in(session, id); });
}

Result<ApiKey> SqlCatalog::find_key_by_hash(const wire::Sha256& secret_hash) {
  return read([&secret_hash](sql::Session& session) -> Result<ApiKey> {
    CONCLAVE_TRY(auto key, find_by_hash(session, secret_hash));
    if (!key) return fail(ErrorCode::kNotFound, "there is no such key");
    return std::move(*key);
  });
}

Result<std::vector<ApiKey>> SqlCatalog::list_keys(const std::string& tenant,
                                                  const std::string& after, std::uint32_t limit) {
  CONCLAVE_TRY_VOID(check_text("tenant", tenant, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_text("after", after, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_limit(limit));
  return read([&](sql::Session& session) {
    return keys_of(tenant.empty() ? session.run(kListKeys, after, limit)
                                  : session.run(kListKeysOf, tenant, after, limit));
  });
}

Result<ApiKey> SqlCatalog::revoke_key(const std::string& id, const Change& with) {
  CONCLAVE_TRY_VOID(check_text("id", id, kActorBytesMax));
  return change(with, [&](Writer& writer) -> Result<ApiKey> {
    CONCLAVE_TRY(ApiKey key, find_key_in(writer.sql(), id));
    CONCLAVE_TRY_VOID(writer.check_revision("key " + id, key.revision));
    if (key.revoked_unix_ms != 0) return key;
    const std::string before = json_of(key);
    key.revoked_unix_ms = writer.now_unix_ms();
    key.revision = writer.revision();
    CONCLAVE_TRY_VOID(writer.sql().apply(kRevokeKey, id, key.revoked_unix_ms, key.revision));
    CONCLAVE_TRY_VOID(writer.audit("key.revoke", id, before, json_of(key)));
    return key;
  });
}

namespace {

Result<Quota> quota_in(sql::Session& session, const std::string& tenant) {
  CONCLAVE_TRY_VOID(find_tenant_in(session, tenant));
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindQuota, tenant));
  if (rows.empty()) return Quota{tenant, 0, 0, 0, 0, 0, 0};
  const sql::Row& row = rows.front();
  return Quota{row.text(0),  row.large(1), row.large(2), row.large(3),
               row.large(4), row.small(5), row.large(6)};
}

Status check_quota(const Quota& quota) {
  CONCLAVE_TRY_VOID(check_name("tenant", quota.tenant));
  for (const auto& [what, limit] : {std::pair{"requests_per_minute", quota.requests_per_minute},
                                    {"tokens_per_minute", quota.tokens_per_minute},
                                    {"tokens_per_day", quota.tokens_per_day},
                                    {"tokens_per_month", quota.tokens_per_month}}) {
    if (limit > INT64_MAX) {
      return fail(ErrorCode::kInvalidArgument, std::string(what) + " is above 2^63 - 1");
    }
  }
  return {};
}

}  // namespace

Result<Quota> SqlCatalog::find_quota(const std::string& tenant) {
  CONCLAVE_TRY_VOID(check_name("tenant", tenant));
  return read([&tenant](sql::Session& session) { return quota_in(session, tenant); });
}

Result<Quota> SqlCatalog::put_quota(const Quota& wanted, const Change& with) {
  CONCLAVE_TRY_VOID(check_quota(wanted));
  return change(with, [&](Writer& writer) -> Result<Quota> {
    CONCLAVE_TRY(const Quota before, quota_in(writer.sql(), wanted.tenant));
    CONCLAVE_TRY_VOID(writer.check_revision("quota of " + wanted.tenant, before.revision));
    Quota after = wanted;
    after.revision = before.revision;
    if (after == before) return after;
    after.revision = writer.revision();
    CONCLAVE_TRY_VOID(writer.sql().apply(
        kPutQuota, after.tenant, after.requests_per_minute, after.tokens_per_minute,
        after.tokens_per_day, after.tokens_per_month, after.concurrent_requests, after.revision));
    CONCLAVE_TRY_VOID(writer.audit("quota.put", after.tenant,
                                   before.revision == 0 ? "" : json_of(before), json_of(after)));
    return after;
  });
}

}  // namespace conclave::catalog
