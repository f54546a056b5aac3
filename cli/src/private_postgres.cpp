#include "private_postgres.hpp"

#include <pwd.h>
#include <signal.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "conclave/base/text.hpp"
#include "conclave/http/uri.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

namespace {

constexpr const char* kDebian = "/usr/lib/postgresql";
constexpr const char* kUser = "conclave";  // the cluster's superuser; no user of the system
constexpr const char* kSocketFile = "/.s.PGSQL.5432";
// PostgreSQL refuses to run as root, and the user it runs as instead has no way into a directory
// below /root, or below ours. A descriptor is one: it is opened before the user changes, and a path
// through it needs no right to what is above.
constexpr const char* kThroughDescriptor = "/proc/self/fd/9";
constexpr const char* kOpenDescriptor = R"(exec 9<"$1"; shift; cd /; exec "$@")";

// initdb, asked to end, removes what it has made.
constexpr std::chrono::milliseconds kPatience{10'000};

std::string because(int number) { return std::generic_category().message(number); }

bool is_root() { return ::geteuid() == 0; }

// How a program of PostgreSQL is started that works in `directory`, which it gets as -D.
Arguments command(const fs::path& program, const fs::path& directory, const Arguments& more) {
  Arguments all;
  if (is_root()) {
    all = {"/bin/sh", "-c", kOpenDescriptor, "sh", directory.string(), "/usr/bin/setpriv"};
    // A change of user forgets who is to hear of the parent's end.
    all.insert(all.end(), {"--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig",
                           "INT", "--"});
  }
  all.insert(all.end(),
             {program.string(), "-D", is_root() ? kThroughDescriptor : directory.string()});
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string first_word(const fs::path& file) {
  std::string word;
  std::ifstream(file) >> word;
  return word;
}

Status make_directory(const fs::path& directory) {
  std::error_code error;
  fs::remove_all(directory, error);  // of a start that was broken off
  if (!error) fs::create_directory(directory, error);
  if (!error) fs::permissions(directory, fs::perms::owner_all, error);
  if (error) return fail(ErrorCode::kUnavailable, directory.string() + ": " + error.message());
  if (!is_root()) return {};
  const passwd* user = ::getpwnam("postgres");  // NOLINT(concurrency-mt-unsafe): no thread yet
  if (user == nullptr) {
    return fail(ErrorCode::kFailedPrecondition,
                "root cannot run PostgreSQL, and there is no user `postgres`");
  }
  if (::chown(directory.c_str(), user->pw_uid, user->pw_gid) != 0) {
    return fail(ErrorCode::kUnavailable, directory.string() + ": " + because(errno));
  }
  return {};
}

// Runs initdb to its end; what it said is in the error.
Status run_initdb(Arguments arguments) {
  std::string said;
  std::string ended;
  Supervisor* self = nullptr;
  Supervisor initdb({{.name = "initdb", .arguments = std::move(arguments)}},
                    {.line =
                         [&](const std::string&, std::string_view line) {
                           said += (said.empty() ? "" : "; ") + base::printable(line);
                         },
                     .fell =
                         [&](const std::string&, const std::string& how, auto) {
                           ended = how;
                           self->end();
                         },
                     .ending = {},
                     .tick = {}});
  self = &initdb;
  CONCLAVE_TRY_VOID(initdb.run(kPatience));
  if (ended.empty()) return fail(ErrorCode::kCancelled, "interrupted while initdb ran");
  if (ended == "exit code 0") return {};
  return fail(ErrorCode::kUnavailable, "initdb ended with " + ended + ": " + said);
}

// Whole or not at all: in a directory beside, which is renamed when it is done.
Status make_cluster(const fs::path& programs, const fs::path& cluster) {
  const fs::path draft = cluster.string() + ".new";
  CONCLAVE_TRY_VOID(make_directory(draft));
  // Who gets to the socket is let in: it is in a directory of one user.
  CONCLAVE_TRY_VOID(run_initdb(command(programs / "initdb", draft,
                                       {"--auth-local=trust", "--auth-host=reject", "-U", kUser,
                                        "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"})));
  std::error_code error;
  fs::rename(draft, cluster, error);
  if (error) return fail(ErrorCode::kUnavailable, cluster.string() + ": " + error.message());
  return {};
}

}  // namespace

Result<fs::path> postgres_programs(const std::string& version) {
  if (const char* chosen = std::getenv("CONCLAVE_POSTGRES_BIN")) return fs::path(chosen);
  fs::path best;
  int newest = 0;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(kDebian, none)) {
    const int number = std::atoi(entry.path().filename().c_str());
    if (!version.empty() && entry.path().filename() != version) continue;
    if (number > newest && fs::exists(entry.path() / "bin" / "initdb", none)) {
      newest = number;
      best = entry.path() / "bin";
    }
  }
  if (newest == 0) {
    return fail(ErrorCode::kFailedPrecondition,
                "PostgreSQL " + version + (version.empty() ? "" : " ") + "is not in " + kDebian +
                    ": install postgresql-" + (version.empty() ? "15" : version) +
                    ", or give the address of a server");
  }
  return best;
}

Result<PrivatePostgres> prepare_postgres(const fs::path& state) {
  const fs::path cluster = state / "postgres";
  if (cluster.string().size() + std::string(kSocketFile).size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(ErrorCode::kInvalidArgument, "the path of " + state.string() +
                                                 " is too long for a socket: choose another one "
                                                 "with --state");
  }
  const bool is_new = !fs::exists(cluster);
  CONCLAVE_TRY(const fs::path programs,
               postgres_programs(is_new ? "" : first_word(cluster / "PG_VERSION")));
  if (is_new) CONCLAVE_TRY_VOID(make_cluster(programs, cluster));
  PrivatePostgres postgres;
  postgres.url =
      "postgresql:///postgres?host=" + http::percent_encode(cluster.string()) + "&user=" + kUser;
  postgres.server.name = "postgres";
  // The socket lies in the cluster, which is where the server works. What it logs below `fatal` is
  // its life and clients' errors: they hear of those themselves.
  postgres.server.arguments =
      command(programs / "postgres", cluster,
              {"-k", ".", "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700", "-c",
               "log_min_messages=fatal"});
  postgres.server.end_signal = SIGINT;  // does not wait for clients
  return postgres;
}

}  // namespace conclave::cli
