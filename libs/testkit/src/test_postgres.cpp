#include "conclave/testkit/test_postgres.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <system_error>

#include "conclave/base/check.hpp"

namespace conclave::testkit {
namespace {

namespace fs = std::filesystem;

// Settings under which nothing waits for a disk, and nothing but the socket listens.
const std::vector<std::string> kSettings = {
    "listen_addresses=",       "fsync=off",          "full_page_writes=off",
    "shared_buffers=32MB",     "max_connections=50", "wal_level=minimal",
    "max_wal_senders=0",       "log_statement=none", "dynamic_shared_memory_type=posix",
    "autovacuum_naptime=3600", "lc_messages=C",      "timezone=UTC",
};

constexpr int kStepMs = 5;
constexpr int kPatienceMs = 60'000;  // a machine that runs many tests at once is slow

void pause_ms(int milliseconds) { ::poll(nullptr, 0, milliseconds); }

// PostgreSQL refuses to run as root.
const passwd* other_user() {
  if (::geteuid() != 0) return nullptr;
  const passwd* user = ::getpwnam("postgres");
  CONCLAVE_CHECK(user != nullptr);
  return user;
}

// Runs a program as PostgreSQL's user, its output into `output`.
pid_t spawn(const std::vector<std::string>& command, const fs::path& output, bool ends_with_us) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const passwd* user = other_user();
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  CONCLAVE_CHECK(child >= 0);
  if (child != 0) return child;
  // Only calls that are safe after a fork of a process with threads, but for initgroups' lookup,
  // which one entry of setgroups replaces.
  if (user != nullptr && (::setgroups(1, &user->pw_gid) != 0 || ::setgid(user->pw_gid) != 0 ||
                          ::setuid(user->pw_uid) != 0)) {
    ::_exit(126);
  }
  if (ends_with_us) {
    ::setsid();  // a Ctrl-C is ours
    ::prctl(PR_SET_PDEATHSIG, SIGQUIT);
    if (::getppid() != parent) ::_exit(126);
  }
  const int file = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (file < 0 || null < 0 || ::dup2(null, 0) < 0 || ::dup2(file, 1) < 0 || ::dup2(file, 2) < 0 ||
      ::chdir("/") != 0) {
    ::_exit(126);
  }
  ::close_range(3, ~0u, 0);
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

bool succeeded(pid_t child) {
  int status = 0;
  CONCLAVE_CHECK(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::string content(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void check(bool condition, const std::string& what, const std::string& output) {
  if (!condition) std::fprintf(stderr, "%s failed:\n%s\n", what.c_str(), output.c_str());
  CONCLAVE_CHECK(condition);
}

}  // namespace

fs::path TestPostgres::programs() {
  const char* chosen = std::getenv("CONCLAVE_POSTGRES_BIN");
  return chosen != nullptr ? chosen : "/usr/lib/postgresql/15/bin";
}

TestPostgres::TestPostgres(std::vector<std::string> settings) : settings_(std::move(settings)) {
  check(fs::exists(programs() / "initdb"), "looking for " + (programs() / "initdb").string(),
        "install packages/test.txt");
  // Not TMPDIR: the path of a socket has at most 107 bytes, and the other user must get there.
  std::string name = "/tmp/conclave-pg-XXXXXX";
  CONCLAVE_CHECK(::mkdtemp(name.data()) != nullptr);
  folder_ = name;
  if (const passwd* user = other_user()) {
    CONCLAVE_CHECK(::chown(name.c_str(), user->pw_uid, user->pw_gid) == 0);
  }
  // Clients of other users come in by the socket.
  CONCLAVE_CHECK(::chmod(name.c_str(), 0755) == 0);
  const bool made =
      succeeded(spawn({(programs() / "initdb").string(), "--no-sync", "--no-instructions", "-A",
                       "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
                       "--wal-segsize=1", "-D", (folder_ / "data").string()},
                      folder_ / "log", true));
  check(made, "initdb", log());
  start();
}

TestPostgres::~TestPostgres() {
  kill();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string TestPostgres::url_of(const std::string& database) const {
  return "postgresql:///" + database + "?host=" + folder_.string() + "&user=postgres";
}

std::string TestPostgres::make_database() {
  const std::string name = "test" + std::to_string(++databases_);
  (void)run_sql(url(), "CREATE DATABASE " + name + " STRATEGY file_copy");
  return url_of(name);
}

std::string TestPostgres::run_sql(const std::string& url, const std::string& sql) const {
  const fs::path output = folder_ / "psql";
  std::error_code ignored;
  fs::remove(output, ignored);
  const bool done = succeeded(spawn({(programs() / "psql").string(), "-X", "-q", "-A", "-t", "-v",
                                     "ON_ERROR_STOP=1", "-c", sql, url},
                                    output, false));
  std::string text = content(output);
  check(done, "psql -c '" + sql + "'", text);
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

void TestPostgres::start() {
  if (server_ > 0) return;
  std::vector<std::string> command = {(programs() / "postgres").string(), "-D",
                                      (folder_ / "data").string(), "-k", folder_.string()};
  std::vector<std::string> settings = kSettings;
  settings.insert(settings.end(), settings_.begin(), settings_.end());
  for (const std::string& setting : settings) {
    command.push_back("-c");
    command.push_back(setting);
  }
  server_ = spawn(command, folder_ / "log", true);
  await_ready();
}

// The server says in its file of pids what it is at, for pg_ctl.
void TestPostgres::await_ready() {
  for (int waited_ms = 0; waited_ms < kPatienceMs; waited_ms += kStepMs) {
    const std::string text = content(folder_ / "data" / "postmaster.pid");
    if (text.starts_with(std::to_string(server_) + "\n") &&
        text.find("\nready") != std::string::npos) {
      return;
    }
    int status = 0;
    check(::waitpid(server_, &status, WNOHANG) == 0, "starting postgres", log());
    pause_ms(kStepMs);
  }
  check(false, "waiting for postgres", log());
}

void TestPostgres::stop() {
  if (server_ <= 0) return;
  ::kill(server_, SIGINT);  // "fast": does not wait for clients
  check(succeeded(server_), "stopping postgres", log());
  server_ = 0;
}

void TestPostgres::kill() {
  if (server_ <= 0) return;
  // SIGQUIT ends every process of it at once, without a checkpoint: the next start recovers from
  // the log. SIGKILL would leave its children to find out, and the next start to trip over them.
  ::kill(server_, SIGQUIT);
  int status = 0;
  CONCLAVE_CHECK(::waitpid(server_, &status, 0) == server_);
  server_ = 0;
}

TestPostgres& shared_postgres() {
  static TestPostgres server;
  return server;
}

std::string TestPostgres::log() const { return content(folder_ / "log"); }

}  // namespace conclave::testkit
