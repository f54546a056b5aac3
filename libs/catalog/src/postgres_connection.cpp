#include "postgres_connection.hpp"

#include <libpq-fe.h>

#include <memory>
#include <utility>
#include <vector>

namespace conclave::catalog::postgres {
namespace {

using base::Error;
using base::ErrorCode;
using base::fail;
using base::Result;

// Of PostgreSQL's table of types; they never change.
constexpr pqxx::oid kBool = 16, kBytes = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23;

// For people: one line, without the statement.
std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

// By class, https://www.postgresql.org/docs/15/errcodes-appendix.html.
Failure failure_of_state(std::string_view state, std::string message) {
  const auto is = [state](std::string_view prefix) { return state.starts_with(prefix); };
  if (state == "40001" || state == "40P01") {  // serialisation, deadlock
    return {{ErrorCode::kUnavailable, std::move(message)}, Remedy::kRepeat};
  }
  // Connections, and a server that ends or starts.
  if (is("08") || is("57P"))
    return {{ErrorCode::kUnavailable, std::move(message)}, Remedy::kReconnect};
  if (is("53") || is("55P03") || is("57") || is("58") || is("25006") || is("25P03")) {
    return {{ErrorCode::kUnavailable, std::move(message)}};  // resources, locks, timeouts, disks
  }
  if (is("XX001") || is("XX002")) return {{ErrorCode::kCorruptData, std::move(message)}};
  if (is("22")) return {{ErrorCode::kInvalidArgument, std::move(message)}};  // data
  if (is("28") || is("42501")) return {{ErrorCode::kFailedPrecondition, std::move(message)}};
  return {{ErrorCode::kInternal, std::move(message)}};  // constraints, syntax: a bug of ours
}

std::string hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "\\x";
  text.reserve(2 + 2 * bytes.size());
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

// Parameters travel as text; the statement says what type they are.
std::string encoded(const sql::Value& value) {
  if (value.is_integer()) return std::to_string(value.integer());
  if (value.is_blob()) return hex(value.blob());
  return value.text();
}

sql::Value decoded(const pqxx::field& field, pqxx::oid type) {
  if (field.is_null()) return {};
  switch (type) {
    case kInt2:
    case kInt4:
    case kInt8:
      return field.as<std::int64_t>();
    case kBool:
      return field.as<bool>() ? 1 : 0;
    case kBytes:
      return sql::Blob{pqxx::binarystring(field).str()};
    default:
      return std::string(field.c_str(), field.size());
  }
}

sql::Rows rows_of(const pqxx::result& result) {
  std::vector<pqxx::oid> types;
  for (pqxx::row::size_type column = 0; column < result.columns(); ++column) {
    types.push_back(result.column_type(column));
  }
  sql::Rows rows;
  rows.reserve(result.size());
  for (const pqxx::row& row : result) {
    std::vector<sql::Value> values;
    values.reserve(types.size());
    for (pqxx::row::size_type column = 0; column < row.size(); ++column) {
      values.push_back(decoded(row[column], types[column]));
    }
    rows.emplace_back(std::move(values));
  }
  return rows;
}

}  // namespace

Failure failure_of(const std::exception& thrown, bool connected) {
  std::string message = "PostgreSQL: " + first_line(thrown.what());
  const auto* sql = dynamic_cast<const pqxx::sql_error*>(&thrown);
  if (sql != nullptr && !sql->sqlstate().empty()) {
    return failure_of_state(sql->sqlstate(), std::move(message));
  }
  if (dynamic_cast<const pqxx::transaction_rollback*>(&thrown) != nullptr) {
    return {{ErrorCode::kUnavailable, std::move(message)}, Remedy::kRepeat};
  }
  if (!connected || dynamic_cast<const pqxx::broken_connection*>(&thrown) != nullptr) {
    return {{ErrorCode::kUnavailable, std::move(message)}, Remedy::kReconnect};
  }
  return {{ErrorCode::kInternal, std::move(message)}};
}

Result<std::string> connection_string(const std::string& url) {
  char* problem = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(url.c_str(), &problem), PQconninfoFree);
  if (options == nullptr) {
    const std::string message = problem != nullptr ? first_line(problem) : "no address";
    PQfreemem(problem);
    return fail(ErrorCode::kInvalidArgument, "PostgreSQL: " + message);
  }
  // A host that is gone without a word: connecting ends after 5 s, a statement after 10 s.
  std::vector<std::pair<std::string, std::string>> wanted = {
      {"connect_timeout", "5"},  {"tcp_user_timeout", "10000"},
      {"keepalives_idle", "5"},  {"keepalives_interval", "2"},
      {"keepalives_count", "3"}, {"application_name", "conclave"}};
  std::string text;
  const auto add = [&text](const std::string& key, std::string_view value) {
    text += key + "='";
    for (const char c : value) {
      if (c == '\'' || c == '\\') text += '\\';
      text += c;
    }
    text += "' ";
  };
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val == nullptr) continue;
    std::erase_if(wanted, [option](const auto& pair) { return pair.first == option->keyword; });
    add(option->keyword, option->val);
  }
  for (const auto& [key, value] : wanted) add(key, value);
  return text;
}

Connection::Connection(const std::string& connection_string, const CatalogOptions& options)
    : connection_(connection_string), quiet_(connection_) {
  // Otherwise a lost connection would come back in the middle of a transaction, without its start.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  connection_.inhibit_reactivation(true);
#pragma GCC diagnostic pop
  const std::string timeout = std::to_string(options.statement_timeout_ms);
  pqxx::nontransaction setup(connection_);
  setup.exec_params(
      "SELECT set_config('search_path', 'conclave', false),"
      " set_config('statement_timeout', $1, false), set_config('lock_timeout', $1, false),"
      " set_config('idle_in_transaction_session_timeout', $1, false),"
      " set_config('client_encoding', 'UTF8', false),"
      " set_config('synchronous_commit', 'on', false)",
      timeout);
}

void Connection::prepare(const sql::Statement& statement) {
  if (prepared_.contains(statement.name)) return;
  connection_.prepare(statement.name, statement.text);
  prepared_.insert(statement.name);
}

Result<sql::Rows> Session::execute(const sql::Statement& statement,
                                   std::span<const sql::Value> parameters) {
  try {
    connection_.prepare(statement);
    std::vector<std::string> texts;
    for (const sql::Value& value : parameters) texts.push_back(encoded(value));
    std::vector<const char*> pointers;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      pointers.push_back(parameters[i].is_null() ? nullptr : texts[i].c_str());
    }
    return rows_of(
        transaction_.exec_prepared(statement.name, pqxx::prepare::make_dynamic_params(pointers)));
  } catch (const std::exception& thrown) {
    Failure failure = failure_of(thrown, connection_.is_open());
    remedy_ = failure.remedy;
    return fail(failure.error.within(statement.name));
  }
}

}  // namespace conclave::catalog::postgres
