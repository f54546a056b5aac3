#include "sqlite_driver.hpp"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "conclave/base/text.hpp"
#include "sqlite.hpp"
#include "sqlite_schema.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
using sqlite::Database;
using sqlite::Reset;

// Other processes do not tell us that they wrote. People notice a second, a processor does not
// notice ten looks at one row.
constexpr auto kLookEvery = std::chrono::milliseconds(100);

// Told of each commit of this process; several watchers share it. Any thread.
class Bell {
 public:
  void ring() {
    const std::scoped_lock lock(mutex_);
    ++rings_;
    rung_.notify_all();
  }
  /// Until it rings, or `ended`, or for kLookEvery.
  void wait(const bool& ended) {
    std::unique_lock lock(mutex_);
    rung_.wait_for(lock, kLookEvery,
                   [this, &ended, before = rings_] { return ended || rings_ != before; });
  }
  void end(bool& ended) {
    const std::scoped_lock lock(mutex_);
    ended = true;
    rung_.notify_all();
  }
  [[nodiscard]] bool is(const bool& ended) {
    const std::scoped_lock lock(mutex_);
    return ended;
  }

 private:
  std::mutex mutex_;  // guards rings_ and every watcher's `ended`
  std::condition_variable rung_;
  std::uint64_t rings_ = 0;
};

class SqliteSession final : public sql::Session {
 public:
  SqliteSession(Database& database,
                std::unordered_map<std::string_view, sqlite::Statement>& prepared)
      : database_(database), prepared_(prepared) {}

  Result<sql::Rows> execute(const sql::Statement& statement,
                            std::span<const sql::Value> parameters) override {
    auto found = prepared_.find(statement.name);
    if (found == prepared_.end()) {
      CONCLAVE_TRY(sqlite::Statement made, database_.prepare(statement.text));
      found = prepared_.emplace(statement.name, std::move(made)).first;
    }
    sqlite::Statement& query = found->second;
    CONCLAVE_TRY_VOID(query.bind_all(parameters));
    const Reset reset(query);
    sql::Rows rows;
    while (true) {
      CONCLAVE_TRY(const bool more, query.step());
      if (!more) return rows;
      rows.push_back(query.row());
    }
  }

 private:
  Database& database_;
  std::unordered_map<std::string_view, sqlite::Statement>& prepared_;
};

class SqliteDriver final : public sql::Driver {
 public:
  explicit SqliteDriver(Database database) : database_(std::move(database)) {}

  Status read(const sql::Body& body) override { return transact("BEGIN", body); }

  sql::Outcome write(sql::Lock, const sql::Body& body) override {
    // The write lock from the start, so that what is read is still true when it writes.
    const Status done = transact("BEGIN IMMEDIATE", body);
    if (done) bell_->ring();
    return {done, false};
  }

  Result<std::int64_t> now_unix_ms(sql::Session&, std::int64_t callers) override { return callers; }

  Result<std::unique_ptr<Watch>> watch(
      std::function<void(std::uint64_t revision)> changed) override {
    return std::unique_ptr<Watch>(std::make_unique<Watcher>(*this, std::move(changed)));
  }

 private:
  // Must end before the driver does, as every watch.
  class Watcher final : public Watch {
   public:
    Watcher(SqliteDriver& driver, std::function<void(std::uint64_t)> changed)
        : driver_(driver), bell_(driver.bell_), changed_(std::move(changed)) {
      thread_ = std::thread([this] { look(); });
    }
    ~Watcher() override {
      bell_->end(ended_);
      thread_.join();
    }

   private:
    void look() {
      bool told = false;
      for (std::uint64_t last = 0; !bell_->is(ended_); bell_->wait(ended_)) {
        std::uint64_t now = last;
        const Status read = driver_.read([&now](sql::Session& session) -> Result<sql::End> {
          CONCLAVE_TRY(const sql::Rows rows, session.run(sql::kReadRevision));
          if (!rows.empty()) now = rows.front().large(0);
          return sql::End::kCommit;
        });
        if (!read || (told && now == last)) continue;  // a damaged file is told to who asks
        told = true;
        last = now;
        changed_(now);
      }
    }

    SqliteDriver& driver_;
    std::shared_ptr<Bell> bell_;
    std::function<void(std::uint64_t)> changed_;
    bool ended_ = false;
    std::thread thread_;  // last: it uses everything above
  };

  Status transact(const char* begin, const sql::Body& body) {
    const std::scoped_lock lock(mutex_);
    CONCLAVE_TRY_VOID(database_.execute(begin));
    SqliteSession session(database_, prepared_);
    const auto end = body(session);
    Status done;
    if (!end) done = fail(end.error());
    if (end && *end == sql::End::kCommit) done = database_.execute("COMMIT");
    // Some failures end the transaction by themselves.
    if (!database_.is_idle()) {
      const Status undone = database_.execute("ROLLBACK");
      if (done && !undone) done = undone;
    }
    return done;
  }

  std::mutex mutex_;   // guards the connection and its statements
  Database database_;  // before the statements: they must not outlive it
  std::unordered_map<std::string_view, sqlite::Statement> prepared_;
  std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();
};

// Before anything else is read from or written to the file.
Status prepare_file(Database& database, int lock_wait_ms) {
  CONCLAVE_TRY_VOID(database.use_write_ahead_log(lock_wait_ms));
  // A commit is on disk before it is acknowledged.
  CONCLAVE_TRY_VOID(database.execute("PRAGMA synchronous = FULL"));
  CONCLAVE_TRY_VOID(migrate(database));
  // Damage is found now and not in the middle of a night.
  const auto health = database.text("PRAGMA quick_check(1)");
  if (!health) return fail(health.error());
  if (*health != "ok") {
    return fail(ErrorCode::kCorruptData, "the database is damaged: " + *health);
  }
  return {};
}

Result<Database> open_file(const std::string& path, int lock_wait_ms) {
  CONCLAVE_TRY(Database database, Database::open(path, lock_wait_ms));
  CONCLAVE_TRY_VOID(prepare_file(database, lock_wait_ms));
  return database;
}

}  // namespace

Result<std::unique_ptr<sql::Driver>> open_sqlite(const std::string& path,
                                                 const CatalogOptions& options) {
  auto database = open_file(path, static_cast<int>(options.statement_timeout_ms));
  if (!database) return fail(database.error().within("catalog " + base::shown(path)));
  return std::unique_ptr<sql::Driver>(std::make_unique<SqliteDriver>(std::move(*database)));
}

}  // namespace conclave::catalog
