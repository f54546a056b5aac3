// One connection to PostgreSQL, and what its exceptions mean. With postgres_driver.cpp the only
// place that sees libpqxx; exceptions end there.
#pragma once

#include <cstdint>
#include <exception>
#include <pqxx/pqxx>
#include <set>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/catalog/open.hpp"
#include "sql.hpp"

namespace conclave::catalog::postgres {

/// What to do about a failure.
enum class Remedy {
  kNone,       // tell the caller
  kRepeat,     // the same again: transactions got in each other's way
  kReconnect,  // the same again, over another connection
};

struct Failure {
  base::Error error;
  Remedy remedy = Remedy::kNone;
};

/// `connected`: whether the connection still stands.
Failure failure_of(const std::exception& thrown, bool connected);

/// The address with what every connection of ours needs: bounds on how long a peer that says
/// nothing is waited for. kInvalidArgument: no address.
base::Result<std::string> connection_string(const std::string& url);

/// Throws what libpqxx throws. One thread at a time.
class Connection {
 public:
  Connection(const std::string& connection_string, const CatalogOptions& options);

  /// Prepares the statement if this connection does not know it yet.
  void prepare(const sql::Statement& statement);
  [[nodiscard]] pqxx::connection& raw() { return connection_; }
  [[nodiscard]] bool is_open() const { return connection_.is_open(); }

 private:
  pqxx::connection connection_;
  pqxx::quiet_errorhandler quiet_;  // notices are not for our log
  std::set<std::string_view> prepared_;
};

/// A transaction as the store sees it.
class Session final : public sql::Session {
 public:
  Session(Connection& connection, pqxx::transaction_base& transaction)
      : connection_(connection), transaction_(transaction) {}

  base::Result<sql::Rows> execute(const sql::Statement& statement,
                                  std::span<const sql::Value> parameters) override;

  /// Of the last statement that failed.
  [[nodiscard]] Remedy remedy() const { return remedy_; }

 private:
  Connection& connection_;
  pqxx::transaction_base& transaction_;
  Remedy remedy_ = Remedy::kNone;
};

}  // namespace conclave::catalog::postgres
