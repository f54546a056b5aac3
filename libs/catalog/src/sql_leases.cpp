#include "conclave/catalog/reference.hpp"
#include "sql_catalog.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr std::int64_t kTtlMsMax = 3'600'000;

constexpr sql::Statement kFindLease{
    "find_lease", "SELECT name, holder, token, expires_unix_ms FROM lease WHERE name = $1"};
constexpr sql::Statement kPutLease{
    "put_lease",
    "INSERT INTO lease (name, holder, token, expires_unix_ms) VALUES ($1, $2, $3, $4)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = excluded.token,"
    " expires_unix_ms = excluded.expires_unix_ms"};
constexpr sql::Statement kCountLeases{"count_leases", "SELECT count(*) FROM lease"};

Status check_ttl(std::int64_t ttl_ms) {
  if (ttl_ms >= 1 && ttl_ms <= kTtlMsMax) return {};
  return fail(ErrorCode::kInvalidArgument,
              "a lease lasts 1 to " + std::to_string(kTtlMsMax) + " ms");
}

// With an empty holder if it lapsed; token 0: nobody ever had it.
Result<Lease> lease_in(sql::Session& session, const std::string& name, std::int64_t now_unix_ms) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindLease, name));
  if (rows.empty()) return Lease{name, {}, 0, 0};
  const sql::Row& row = rows.front();
  Lease lease{row.text(0), row.text(1), row.large(2), row.integer(3)};
  if (lease.expires_unix_ms <= now_unix_ms) lease.holder.clear();
  return lease;
}

Status put(sql::Session& session, const Lease& lease) {
  return session.apply(kPutLease, lease.name, lease.holder, lease.token, lease.expires_unix_ms);
}

Status check_room(sql::Session& session) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kCountLeases));
  if (rows.front().large(0) < kLeasesMax) return {};
  return fail(ErrorCode::kOverloaded,
              "there are at most " + std::to_string(kLeasesMax) + " leases");
}

}  // namespace

Result<Lease> SqlCatalog::acquire_lease(const std::string& name, const std::string& holder,
                                        std::int64_t ttl_ms, std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_name("lease name", name));
  CONCLAVE_TRY_VOID(check_text("holder", holder, kActorBytesMax));
  if (holder.empty()) return fail(ErrorCode::kInvalidArgument, "a lease without a holder");
  CONCLAVE_TRY_VOID(check_ttl(ttl_ms));
  return write(sql::Lock::kLeases, [&](sql::Session& session) -> Result<Lease> {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    CONCLAVE_TRY(Lease lease, lease_in(session, name, now));
    if (lease.token == 0) CONCLAVE_TRY_VOID(check_room(session));
    if (lease.holder.empty()) {
      lease.holder = holder;
      ++lease.token;
    }
    if (lease.holder != holder) return lease;
    lease.expires_unix_ms = now + ttl_ms;
    CONCLAVE_TRY_VOID(put(session, lease));
    return lease;
  });
}

Result<Lease> SqlCatalog::renew_lease(const Lease& held, std::int64_t ttl_ms,
                                      std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_name("lease name", held.name));
  CONCLAVE_TRY_VOID(check_ttl(ttl_ms));
  return write(sql::Lock::kLeases, [&](sql::Session& session) -> Result<Lease> {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    CONCLAVE_TRY(Lease lease, lease_in(session, held.name, now));
    if (lease.holder.empty() || lease.holder != held.holder || lease.token != held.token) {
      return fail(
          ErrorCode::kFailedPrecondition,
          "the lease " + held.name + " is no longer held with token " + std::to_string(held.token));
    }
    lease.expires_unix_ms = now + ttl_ms;
    CONCLAVE_TRY_VOID(put(session, lease));
    return lease;
  });
}

Status SqlCatalog::release_lease(const Lease& held) {
  CONCLAVE_TRY_VOID(check_name("lease name", held.name));
  return write(sql::Lock::kLeases, [&](sql::Session& session) -> Status {
    // Whether it lapsed does not matter: its row says who had it last.
    CONCLAVE_TRY(Lease lease, lease_in(session, held.name, INT64_MIN));
    if (lease.holder != held.holder || lease.token != held.token || lease.token == 0) return {};
    lease.holder.clear();
    lease.expires_unix_ms = 0;
    return put(session, lease);
  });
}

Result<Lease> SqlCatalog::find_lease(const std::string& name, std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_name("lease name", name));
  return read([&](sql::Session& session) -> Result<Lease> {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    CONCLAVE_TRY(Lease lease, lease_in(session, name, now));
    if (lease.token == 0) return fail(ErrorCode::kNotFound, "nobody ever had the lease " + name);
    return lease;
  });
}

}  // namespace conclave::catalog
