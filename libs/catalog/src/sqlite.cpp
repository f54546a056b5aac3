#include "sqlite.hpp"

#include <utility>

#include "conclave/base/check.hpp"

namespace conclave::catalog::sqlite {

using base::Error;
using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

Error error_of(sqlite3* database, int code, std::string_view doing) {
  ErrorCode kind = ErrorCode::kInternal;
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_FULL:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_NOMEM:
    case SQLITE_PROTOCOL:
      kind = ErrorCode::kUnavailable;
      break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
      kind = ErrorCode::kCorruptData;
      break;
    default:  // constraint, misuse, syntax: a bug of ours
      break;
  }
  const char* detail = database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code);
  return {kind, std::string(doing) + ": " + detail};
}

Result<Database> Database::open(const std::string& path, int lock_wait_ms) {
  sqlite3* handle = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &handle,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
      nullptr);
  Database database(handle);  // also after a failure there is a handle to close
  if (code != SQLITE_OK) return fail(error_of(handle, code, "open " + path));
  sqlite3_busy_timeout(handle, lock_wait_ms);
  // A damaged or planted schema must not run anything: no SQL functions in it, no writable schema.
  sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  CONCLAVE_TRY_VOID(database.execute("PRAGMA foreign_keys = ON"));
  return database;
}

Status Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle(), sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return fail(error_of(handle(), code, "execute"));
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle(), sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return fail(error_of(handle(), code, "prepare"));
  return Statement(statement);
}

Status Database::use_write_ahead_log(int lock_wait_ms) {
  // The change needs the file for itself, and SQLite does not call its own busy handler for that.
  constexpr int kPauseMs = 10;
  for (int waited_ms = 0;; waited_ms += kPauseMs) {
    const auto mode = text("PRAGMA journal_mode = WAL");
    if (mode) return {};  // "wal", or "memory" for a database that has no file
    const bool busy = (sqlite3_errcode(handle()) & 0xff) == SQLITE_BUSY;
    if (!busy || waited_ms >= lock_wait_ms) return fail(mode.error());
    sqlite3_sleep(kPauseMs);
  }
}

Result<std::int64_t> Database::integer(std::string_view sql) {
  CONCLAVE_TRY(Statement statement, prepare(sql));
  CONCLAVE_TRY(const bool row, statement.step());
  CONCLAVE_CHECK(row);
  return statement.integer(0);
}

Result<std::string> Database::text(std::string_view sql) {
  CONCLAVE_TRY(Statement statement, prepare(sql));
  CONCLAVE_TRY(const bool row, statement.step());
  CONCLAVE_CHECK(row);
  return statement.text(0);
}

Status Database::transaction(const std::function<Status()>& body) {
  CONCLAVE_TRY_VOID(execute("BEGIN IMMEDIATE"));
  Status done = body();
  if (done) done = execute("COMMIT");
  // Some failures end the transaction by themselves.
  if (!done && sqlite3_get_autocommit(handle()) == 0) {
    const Status undone = execute("ROLLBACK");
    CONCLAVE_CHECK(undone.has_value() || sqlite3_get_autocommit(handle()) != 0);
  }
  return done;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const Error error = error_of(sqlite3_db_handle(handle_.get()), code, "step");
  reset();
  return fail(error);
}

void Statement::reset() {
  sqlite3_reset(handle_.get());  // repeats the error of the last step, which was reported
  sqlite3_clear_bindings(handle_.get());
}

std::string Statement::text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), column));
  if (text == nullptr) return {};
  return {text, static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column))};
}

sql::Value Statement::value(int column) const {
  switch (sqlite3_column_type(handle_.get(), column)) {
    case SQLITE_INTEGER:
      return integer(column);
    case SQLITE_BLOB: {
      const auto* data = static_cast<const char*>(sqlite3_column_blob(handle_.get(), column));
      const auto size = static_cast<std::size_t>(sqlite3_column_bytes(handle_.get(), column));
      return sql::Blob{data != nullptr ? std::string(data, size) : std::string()};
    }
    case SQLITE_NULL:
      return {};
    default:
      return text(column);
  }
}

sql::Row Statement::row() const {
  std::vector<sql::Value> values;
  const int count = sqlite3_column_count(handle_.get());
  for (int column = 0; column < count; ++column) values.push_back(value(column));
  return sql::Row(std::move(values));
}

Status Statement::bind_all(std::span<const sql::Value> values) {
  reset();
  for (std::size_t i = 0; i < values.size(); ++i) {
    // SQLite takes "$1" for a name, and numbers names in the order in which it meets them.
    const int index =
        sqlite3_bind_parameter_index(handle_.get(), ("$" + std::to_string(i + 1)).c_str());
    CONCLAVE_CHECK(index != 0);
    const int code = bind_one(index, values[i]);
    if (code != SQLITE_OK) return fail(error_of(sqlite3_db_handle(handle_.get()), code, "bind"));
  }
  return {};
}

// Copies: what is bound need not outlive the call.
int Statement::bind_one(int index, const sql::Value& value) {
  if (value.is_null()) return sqlite3_bind_null(handle_.get(), index);
  if (value.is_integer()) return sqlite3_bind_int64(handle_.get(), index, value.integer());
  if (value.is_blob()) {
    const auto bytes = value.blob();
    // An empty span may have no address, which would be NULL.
    return sqlite3_bind_blob64(handle_.get(), index,
                               bytes.empty() ? "" : static_cast<const void*>(bytes.data()),
                               bytes.size(), SQLITE_TRANSIENT);
  }
  return sqlite3_bind_text64(handle_.get(), index, value.text().data(), value.text().size(),
                             SQLITE_TRANSIENT, SQLITE_UTF8);
}

}  // namespace conclave::catalog::sqlite
