#include <algorithm>

#include "sql_catalog.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

#define CONCLAVE_OPERATION_COLUMNS                                                               \
  "id, what, subject, owner, state, percent, error_code, error, started_unix_ms, beat_unix_ms, " \
  "ended_unix_ms"

constexpr sql::Statement kFind{
    "find_operation", "SELECT " CONCLAVE_OPERATION_COLUMNS ", result FROM operation WHERE id = $1"};
constexpr sql::Statement kList{"list_operations",
                               "SELECT " CONCLAVE_OPERATION_COLUMNS
                               ", '' FROM operation ORDER BY started_unix_ms DESC, id DESC"
                               " LIMIT $1"};
constexpr sql::Statement kSame{"same_operation",
                               "SELECT " CONCLAVE_OPERATION_COLUMNS
                               ", '' FROM operation WHERE state = 'running' AND what = $1"
                               " AND subject = $2 AND request = $3 ORDER BY started_unix_ms, id"
                               " LIMIT 1"};
constexpr sql::Statement kRunning{"running_operations",
                                  "SELECT count(*) FROM operation WHERE state = 'running'"};
constexpr sql::Statement kInsert{
    "add_operation",
    "INSERT INTO operation (id, what, subject, request, owner, state, percent, result, error_code,"
    " error, started_unix_ms, beat_unix_ms, ended_unix_ms)"
    " VALUES ($1, $2, $3, $4, $5, 'running', 0, '', '', '', $6, $6, 0)"};
constexpr sql::Statement kBeat{"beat_operation",
                               "UPDATE operation SET percent = $3, beat_unix_ms = $4"
                               " WHERE id = $1 AND owner = $2 AND state = 'running'"};
constexpr sql::Statement kInterrupt{
    "interrupt_operations",
    "UPDATE operation SET state = 'failed', error_code = $2, error = $3,"
    " ended_unix_ms = beat_unix_ms WHERE state = 'running' AND beat_unix_ms < $1"};
// $1 is the node's name with its '/'.
constexpr sql::Statement kInterruptFormer{
    "interrupt_former",
    "UPDATE operation SET state = 'failed', error_code = $3, error = $4, ended_unix_ms = $5"
    " WHERE state = 'running' AND owner <> $2 AND substr(owner, 1, length($1)) = $1"};
constexpr sql::Statement kEnd{
    "end_operation",
    "UPDATE operation SET state = $2, percent = $3, result = $4, error_code = $5, error = $6,"
    " ended_unix_ms = $7 WHERE id = $1"};
constexpr sql::Statement kForget{
    "forget_operations",
    "DELETE FROM operation WHERE state <> 'running' AND id NOT IN (SELECT id FROM operation"
    " WHERE state <> 'running' ORDER BY ended_unix_ms DESC, id DESC LIMIT $1)"};

#undef CONCLAVE_OPERATION_COLUMNS

constexpr auto kInterruptedText = "who did it ended in the middle of it: it may be begun again";

// As it is now: one that nobody beats for has failed, whether or not that was written down.
Result<Operation> operation_of(const sql::Row& row, std::int64_t now_unix_ms) {
  Operation operation;
  operation.id = row.text(0);
  operation.what = row.text(1);
  operation.subject = row.text(2);
  operation.owner = row.text(3);
  operation.percent = row.small(5);
  operation.outcome = {row.text(11), row.text(6), row.text(7)};
  operation.started_unix_ms = row.integer(8);
  operation.beat_unix_ms = row.integer(9);
  operation.ended_unix_ms = row.integer(10);
  const std::string& state = row.text(4);
  if (state == "done") {
    operation.state = OperationState::kDone;
  } else if (state == "failed") {
    operation.state = OperationState::kFailed;
  } else if (state != "running") {
    return fail(ErrorCode::kCorruptData, "operation " + operation.id + " has no state");
  } else if (operation.beat_unix_ms < now_unix_ms - Operations::kSilenceMs) {
    operation.state = OperationState::kFailed;
    operation.outcome = {{}, kInterrupted, kInterruptedText};
    operation.ended_unix_ms = operation.beat_unix_ms;
  }
  return operation;
}

Result<Operation> found(sql::Session& session, const std::string& id, std::int64_t now_unix_ms) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFind, id));
  if (rows.empty()) return fail(ErrorCode::kNotFound, "there is no such operation");
  return operation_of(rows.front(), now_unix_ms);
}

Status interrupt_silent(sql::Session& session, std::int64_t now_unix_ms) {
  return session.apply(kInterrupt, now_unix_ms - Operations::kSilenceMs, kInterrupted,
                       kInterruptedText);
}

Status check_new(const NewOperation& operation) {
  CONCLAVE_TRY_VOID(check_text("operation", operation.id, kActorBytesMax));
  CONCLAVE_TRY_VOID(check_text("what", operation.what, kActorBytesMax));
  CONCLAVE_TRY_VOID(check_text("subject", operation.subject, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_text("request", operation.request, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_text("owner", operation.owner, kActorBytesMax));
  if (!operation.id.empty() && !operation.what.empty() && !operation.owner.empty()) return {};
  return fail(ErrorCode::kInvalidArgument, "an operation without a name, a kind or an owner");
}

}  // namespace

Result<Operation> SqlCatalog::begin_operation(const NewOperation& operation,
                                              std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_new(operation));
  return write(sql::Lock::kOperations, [&](sql::Session& session) -> Result<Operation> {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    CONCLAVE_TRY_VOID(interrupt_silent(session, now));
    CONCLAVE_TRY(const sql::Rows same,
                 session.run(kSame, operation.what, operation.subject, operation.request));
    if (!same.empty()) return operation_of(same.front(), now);
    CONCLAVE_TRY(const sql::Rows running, session.run(kRunning));
    if (running.front().large(0) >= kOperationsRunningMax) {
      return fail(ErrorCode::kOverloaded,
                  std::to_string(kOperationsRunningMax) + " operations are running already");
    }
    CONCLAVE_TRY_VOID(session.apply(kForget, kOperationsKept));
    CONCLAVE_TRY_VOID(session.apply(kInsert, operation.id, operation.what, operation.subject,
                                    operation.request, operation.owner, now));
    return found(session, operation.id, now);
  });
}

Status SqlCatalog::interrupt_former(const std::string& owner, std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_text("owner", owner, kActorBytesMax));
  const std::string node = owner.substr(0, owner.rfind('/') + 1);
  if (node.empty()) return fail(ErrorCode::kInvalidArgument, "an owner without a node");
  return write(sql::Lock::kOperations, [&](sql::Session& session) -> Status {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    return session.apply(kInterruptFormer, node, owner, kInterrupted, kInterruptedText, now);
  });
}

Status SqlCatalog::beat_operations(const std::string& owner, std::span<const OperationBeat> beats,
                                   std::int64_t now_unix_ms) {
  return write(sql::Lock::kOperations, [&](sql::Session& session) -> Status {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    for (const OperationBeat& beat : beats) {
      CONCLAVE_TRY_VOID(
          session.apply(kBeat, beat.id, owner, std::min<std::uint32_t>(beat.percent, 100), now));
    }
    return interrupt_silent(session, now);
  });
}

Result<Operation> SqlCatalog::end_operation(const std::string& id, const std::string& owner,
                                            const OperationOutcome& outcome,
                                            std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_text("result", outcome.result, kOperationResultBytesMax));
  CONCLAVE_TRY_VOID(check_text("error code", outcome.error_code, kActorBytesMax));
  CONCLAVE_TRY_VOID(check_text("error", outcome.error, kTextBytesMax));
  return write(sql::Lock::kOperations, [&](sql::Session& session) -> Result<Operation> {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    CONCLAVE_TRY(const Operation is, found(session, id, now));
    if (is.owner != owner) return fail(ErrorCode::kNotFound, "there is no such operation here");
    const bool may_end = is.ended_unix_ms == 0 || is.outcome.error_code == kInterrupted;
    if (!may_end) return is;
    const bool is_done = outcome.error_code.empty();
    CONCLAVE_TRY_VOID(session.apply(kEnd, id, is_done ? "done" : "failed",
                                    is_done ? 100 : is.percent, outcome.result, outcome.error_code,
                                    outcome.error, now));
    return found(session, id, now);
  });
}

Result<Operation> SqlCatalog::find_operation(const std::string& id, std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_text("operation", id, kActorBytesMax));
  return read([&](sql::Session& session) -> Result<Operation> {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    return found(session, id, now);
  });
}

Result<std::vector<Operation>> SqlCatalog::list_operations(std::uint32_t limit,
                                                           std::int64_t now_unix_ms) {
  CONCLAVE_TRY_VOID(check_limit(limit));
  return read([&](sql::Session& session) -> Result<std::vector<Operation>> {
    CONCLAVE_TRY(const std::int64_t now, driver_->now_unix_ms(session, now_unix_ms));
    CONCLAVE_TRY(const sql::Rows rows, session.run(kList, limit));
    std::vector<Operation> operations;
    operations.reserve(rows.size());
    for (const sql::Row& row : rows) {
      CONCLAVE_TRY(Operation operation, operation_of(row, now));
      operations.push_back(std::move(operation));
    }
    return operations;
  });
}

}  // namespace conclave::catalog
