#include <span>

#include "conclave/catalog/reference.hpp"
#include "conclave/wire/limits.hpp"
#include "sql_catalog.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr sql::Statement kFindToken{"find_lease_token", "SELECT token FROM lease WHERE name = $1"};
constexpr sql::Statement kFindState{"find_lease_state",
                                    "SELECT revision, data FROM lease_state WHERE name = $1"};
constexpr sql::Statement kPutState{
    "put_lease_state",
    "INSERT INTO lease_state (name, revision, data) VALUES ($1, $2, $3)"
    " ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, data = excluded.data"};

// The token alone counts: a lease that lapsed and that nobody took since is still the last one.
Status check_token(sql::Session& session, const std::string& name, std::uint64_t token) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindToken, name));
  if (token != 0 && !rows.empty() && rows.front().large(0) == token) return {};
  return fail(ErrorCode::kFailedPrecondition,
              std::to_string(token) + " is not the token of the lease " + name);
}

Result<LeaseState> state_in(sql::Session& session, const std::string& name) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindState, name));
  if (rows.empty()) return LeaseState{};
  const std::span<const std::byte> data = rows.front().blob(1);
  return LeaseState{rows.front().large(0),
                    {reinterpret_cast<const char*>(data.data()), data.size()}};
}

}  // namespace

Result<LeaseState> SqlCatalog::find_lease_state(const std::string& name) {
  CONCLAVE_TRY_VOID(check_name("lease name", name));
  return read([&](sql::Session& session) { return state_in(session, name); });
}

Result<std::uint64_t> SqlCatalog::put_lease_state(const std::string& name, std::uint64_t token,
                                                  std::uint64_t revision, std::string_view data) {
  CONCLAVE_TRY_VOID(check_name("lease name", name));
  if (data.size() > wire::kStateBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "what is kept for a lease has at most " +
                                                 std::to_string(wire::kStateBytesMax) + " bytes");
  }
  return write(sql::Lock::kLeases, [&](sql::Session& session) -> Result<std::uint64_t> {
    CONCLAVE_TRY_VOID(check_token(session, name, token));
    CONCLAVE_TRY(const LeaseState kept, state_in(session, name));
    // A commit whose answer got lost is tried again: it is there already then.
    if (kept.revision == revision + 1 && kept.data == data) return kept.revision;
    if (kept.revision != revision) {
      return fail(
          ErrorCode::kFailedPrecondition,
          "what is kept for the lease " + name + " has revision " + std::to_string(kept.revision));
    }
    CONCLAVE_TRY_VOID(session.apply(kPutState, name, revision + 1, std::as_bytes(std::span(data))));
    return revision + 1;
  });
}

}  // namespace conclave::catalog
