// A PostgreSQL server for one `conclave up` alone: Debian's programs, a cluster in the state
// directory, reached by a socket in there and by nothing else. Supervised as the services are.
#pragma once

#include <filesystem>
#include <string>

#include "conclave/base/result.hpp"
#include "supervisor.hpp"

namespace conclave::cli {

struct PrivatePostgres {
  std::string url;   // postgresql://.., without a password: the directory is the user's alone
  ChildSpec server;  // named "postgres"; its stage is the caller's to set
};

/// Makes the cluster `state`/postgres, if it is not there, and says how to run and reach it. Run
/// as root, all of it is done as the user `postgres`, as PostgreSQL wants it; the way to `state`
/// may be closed to that user. Takes some seconds the first time.
///
/// kFailedPrecondition: PostgreSQL is not installed, or not the version that made the cluster;
/// kInvalidArgument: the path is too long for a socket; kUnavailable: the system, or initdb, with
/// what it said.
base::Result<PrivatePostgres> prepare_postgres(const std::filesystem::path& state);

/// Where PostgreSQL's programs are: what CONCLAVE_POSTGRES_BIN says, or else the newest that Debian
/// has put on this machine; with a `version` ("15"), that one. kFailedPrecondition: there are none.
base::Result<std::filesystem::path> postgres_programs(const std::string& version = "");

}  // namespace conclave::cli
