#include "postgres_driver.hpp"

#include <algorithm>
#include <pqxx/pqxx>
#include <utility>

#include "conclave/base/check.hpp"
#include "postgres_pool.hpp"
#include "postgres_schema.hpp"
#include "postgres_watch.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
using postgres::Connection;
using postgres::Failure;
using postgres::Pool;
using postgres::Remedy;

using Reading = pqxx::transaction<pqxx::repeatable_read, pqxx::read_only>;
using Writing = pqxx::transaction<pqxx::serializable>;

constexpr sql::Statement kServerClock{
    "server_clock", "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"};

// Before anything is read: a serialisable transaction sees the moment of its first question, and
// LOCK is none. Readers do not wait for it.
const char* lock_statement(sql::Lock lock) {
  switch (lock) {
    case sql::Lock::kCatalog:
      return "LOCK TABLE state IN EXCLUSIVE MODE";
    case sql::Lock::kUsage:
      return "LOCK TABLE usage_batch IN EXCLUSIVE MODE";
    case sql::Lock::kLeases:
      return "LOCK TABLE lease IN EXCLUSIVE MODE";
    case sql::Lock::kOperations:
      return "LOCK TABLE operation IN EXCLUSIVE MODE";
  }
  CONCLAVE_CHECK(false);
}

struct Attempt {
  Status status;
  Remedy remedy = Remedy::kNone;
  bool in_doubt = false;
};

// Ends the transaction as its body wants. Throws what libpqxx throws, but for a doubt.
template <class Transaction>
Attempt run(Connection& connection, const char* first, const sql::Body& body) {
  Transaction transaction(connection.raw());
  if (first != nullptr) transaction.exec(first);
  postgres::Session session(connection, transaction);
  const auto end = body(session);
  if (!end) {
    const Remedy remedy = session.remedy();
    if (connection.is_open()) transaction.abort();
    return {fail(end.error()), remedy};
  }
  if (*end == sql::End::kRollBack) {
    transaction.abort();
    return {};
  }
  try {
    transaction.commit();
  } catch (const pqxx::in_doubt_error& thrown) {
    return {fail(ErrorCode::kUnavailable, "PostgreSQL was lost in a commit"), Remedy::kReconnect,
            true};
  }
  return {};
}

template <class Transaction>
Attempt attempt(Pool& pool, const char* first, const sql::Body& body) {
  auto lent = pool.lend();
  if (!lent) {
    const bool away = lent.error().code == ErrorCode::kUnavailable;
    return {fail(lent.error()), away ? Remedy::kReconnect : Remedy::kNone};
  }
  Attempt done;
  try {
    done = run<Transaction>(**lent, first, body);
  } catch (const std::exception& thrown) {
    Failure failure = postgres::failure_of(thrown, (*lent)->is_open());
    done = {fail(std::move(failure.error)), failure.remedy};
  }
  if (done.remedy == Remedy::kReconnect || !(*lent)->is_open()) lent->lost();
  return done;
}

class PostgresDriver final : public sql::Driver {
 public:
  PostgresDriver(std::string connection_string, const CatalogOptions& options)
      : pool_(std::move(connection_string), options) {}

  /// Brings the schema up to date.
  Status migrate();

  Status read(const sql::Body& body) override { return repeated<Reading>(nullptr, body).status; }

  sql::Outcome write(sql::Lock lock, const sql::Body& body) override {
    return repeated<Writing>(lock_statement(lock), body);
  }

  Result<std::int64_t> now_unix_ms(sql::Session& session, std::int64_t callers) override {
    if (!pool_.options().server_clock) return callers;
    CONCLAVE_TRY(const sql::Rows rows, session.run(kServerClock));
    return rows.front().integer(0);
  }

  Result<std::unique_ptr<Watch>> watch(
      std::function<void(std::uint64_t revision)> changed) override {
    return postgres::start_watch(pool_.connection_string(), pool_.options(), std::move(changed));
  }

 private:
  // A lost connection is tried again, also by a commit's: the store knows how to find out whether
  // it was done, and asks before it repeats it.
  template <class Transaction>
  sql::Outcome repeated(const char* first, const sql::Body& body) {
    std::chrono::milliseconds wait(10);
    for (unsigned tries = 1;; ++tries) {
      const Attempt done = attempt<Transaction>(pool_, first, body);
      if (done.status || done.in_doubt || done.remedy == Remedy::kNone ||
          tries >= pool_.options().attempts_max) {
        return {done.status, done.in_doubt};
      }
      pool_.pause(wait);
      wait *= 2;
    }
  }

  Pool pool_;
};

Status apply_steps(pqxx::transaction_base& transaction) {
  transaction.exec("CREATE SCHEMA IF NOT EXISTS conclave");
  transaction.exec(kMakeSchemaTable);
  const pqxx::result found = transaction.exec("SELECT version FROM schema_version");
  const auto version = found.empty() ? std::int64_t{0} : found[0][0].as<std::int64_t>();
  const auto steps = postgres_steps();
  const auto newest = static_cast<std::int64_t>(steps.size());
  if (version > newest) {
    return fail(ErrorCode::kFailedPrecondition, "the database has schema " +
                                                    std::to_string(version) +
                                                    ", and this program knows schemas up to " +
                                                    std::to_string(newest) + ": run a newer one");
  }
  if (version == newest) return {};
  for (std::int64_t step = version; step < newest; ++step) {
    transaction.exec(steps[static_cast<std::size_t>(step)]);
  }
  transaction.exec_params(
      "INSERT INTO schema_version (id, version) VALUES (1, $1)"
      " ON CONFLICT (id) DO UPDATE SET version = excluded.version",
      newest);
  return {};
}

Status PostgresDriver::migrate() {
  std::chrono::milliseconds wait(10);
  for (unsigned tries = 1;; ++tries) {
    CONCLAVE_TRY(auto lent, pool_.lend());
    try {
      // Each statement sees what others committed before it: the version is read under the lock.
      pqxx::transaction<pqxx::read_committed> transaction(lent->raw());
      transaction.exec("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0");
      transaction.exec_params("SELECT pg_advisory_xact_lock($1)", kMigrationLock);
      CONCLAVE_TRY_VOID(apply_steps(transaction));
      transaction.commit();
      return {};
    } catch (const std::exception& thrown) {
      Failure failure = postgres::failure_of(thrown, lent->is_open());
      if (failure.remedy == Remedy::kReconnect) lent.lost();
      if (failure.remedy == Remedy::kNone || tries >= pool_.options().attempts_max) {
        return fail(failure.error.within("migration"));
      }
    }
    pool_.pause(wait);
    wait *= 2;
  }
}

}  // namespace

Result<std::unique_ptr<sql::Driver>> open_postgres(const std::string& url,
                                                   const CatalogOptions& options) {
  const auto named = [&url](const base::Error& error) {
    return fail(error.within("catalog " + redacted(url)));
  };
  auto text = postgres::connection_string(url);
  if (!text) return named(text.error());
  auto driver = std::make_unique<PostgresDriver>(std::move(*text), options);
  const Status ready = driver->migrate();
  if (!ready) return named(ready.error());
  return std::unique_ptr<sql::Driver>(std::move(driver));
}

}  // namespace conclave::catalog
