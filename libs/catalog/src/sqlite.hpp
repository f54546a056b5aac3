// SQLite's C interface with owners, Results and typed parameters; no SQL in here.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "sql.hpp"

namespace conclave::catalog::sqlite {

/// What SQLite says, by what a caller can do about it.
base::Error error_of(sqlite3* database, int code, std::string_view doing);

class Statement;

/// One connection. One thread at a time.
class Database {
 public:
  /// Opens or makes `path`, with foreign keys on and waits of `lock_wait_ms` for other writers.
  static base::Result<Database> open(const std::string& path, int lock_wait_ms);

  /// Runs statements without parameters: pragmas, definitions.
  base::Status execute(const char* sql);

  /// Compiles one statement. It must not outlive the database.
  base::Result<Statement> prepare(std::string_view sql);

  /// Readers no longer wait for the writer. Waits for other processes that open the file now.
  base::Status use_write_ahead_log(int lock_wait_ms);

  /// The first column of the first row, which must exist.
  base::Result<std::int64_t> integer(std::string_view sql);
  base::Result<std::string> text(std::string_view sql);

  /// `body` in a transaction that holds the write lock from its start, so that what it reads is
  /// still true when it writes. Rolled back if `body` or the commit fails.
  base::Status transaction(const std::function<base::Status()>& body);

  /// True outside of a transaction.
  [[nodiscard]] bool is_idle() const { return sqlite3_get_autocommit(handle()) != 0; }

  [[nodiscard]] sqlite3* handle() const { return handle_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
  };
  explicit Database(sqlite3* handle) : handle_(handle) {}
  std::unique_ptr<sqlite3, Close> handle_;
};

/// A prepared statement, used again and again: bind, step until false, and start over with the next
/// bind. Parameters and columns count from 0.
class Statement {
 public:
  /// Prepared by Database::prepare; until then nothing may be called.
  Statement() = default;

  /// Ends what ran before and binds $1, $2, .. anew.
  base::Status bind_all(std::span<const sql::Value> values);

  /// True: there is a row; false: the end.
  base::Result<bool> step();

  /// All columns of the row.
  [[nodiscard]] sql::Row row() const;

  /// Ends a read: until then its snapshot is held.
  void reset();

  [[nodiscard]] std::int64_t integer(int column) const {
    return sqlite3_column_int64(handle_.get(), column);
  }
  [[nodiscard]] std::string text(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* handle) const { sqlite3_finalize(handle); }
  };
  explicit Statement(sqlite3_stmt* handle) : handle_(handle) {}

  int bind_one(int index, const sql::Value& value);
  [[nodiscard]] sql::Value value(int column) const;

  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

/// Resets at the end of a scope: a statement that is left in the middle holds its snapshot.
class Reset {
 public:
  explicit Reset(Statement& statement) : statement_(statement) {}
  ~Reset() { statement_.reset(); }
  Reset(const Reset&) = delete;
  Reset& operator=(const Reset&) = delete;

 private:
  Statement& statement_;
};

}  // namespace conclave::catalog::sqlite
