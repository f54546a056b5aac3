// A PostgreSQL server of its own for a test: Debian's, in a directory under /tmp, reached through a
// socket in there, so that any number of tests may run at once. It can be taken away and given
// back.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace conclave::testkit {

/// Gone with the object, or with the thread that made it. Not made for data that must survive the
/// machine: nothing waits for a disk. One thread at a time; what fails is a failed check, with the
/// server's log.
class TestPostgres {
 public:
  /// Where Debian puts PostgreSQL 15, or what CONCLAVE_POSTGRES_BIN says.
  static std::filesystem::path programs();

  /// Makes a cluster and starts it. `settings`: more of "name=value".
  explicit TestPostgres(std::vector<std::string> settings = {});
  ~TestPostgres();
  TestPostgres(const TestPostgres&) = delete;
  TestPostgres& operator=(const TestPostgres&) = delete;

  /// "postgresql://..": the database `postgres`, as its superuser, whether it runs or not.
  [[nodiscard]] std::string url() const { return url_of("postgres"); }
  /// The address of a new, empty database.
  std::string make_database();
  /// Runs SQL as the superuser in the database of an address, and gives what it printed: rows as
  /// lines, columns with '|' between them.
  [[nodiscard]] std::string run_sql(const std::string& url, const std::string& sql) const;

  /// Does nothing if it runs.
  void start();
  /// Ends all connections, writes what is to be written, and ends.
  void stop();
  /// As a power cut would: no process of it does anything more.
  void kill();
  [[nodiscard]] bool is_running() const { return server_ > 0; }

 private:
  [[nodiscard]] std::string url_of(const std::string& database) const;
  void await_ready();
  [[nodiscard]] std::string log() const;

  std::filesystem::path folder_;
  std::vector<std::string> settings_;
  pid_t server_ = 0;
  int databases_ = 0;
};

/// One for all tests of a program: started by the first that wants it, gone with the program.
TestPostgres& shared_postgres();

}  // namespace conclave::testkit
