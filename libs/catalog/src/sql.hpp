// What the store needs of a database: transactions over prepared statements. The store's SQL is
// written once, in the form that both of ours understand: parameters are $1, $2, ..; what differs
// (types, triggers, locks, how watchers hear of a change) is behind Driver.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/catalog/catalog.hpp"

namespace conclave::catalog::sql {

/// A statement of the program. Drivers prepare it once a connection and know it by its name.
struct Statement {
  const char* name;
  const char* text;
};

struct Blob {
  std::string bytes;
};

/// A parameter, or a column of a row. Integers are signed 64-bit: unsigned ones keep their bits.
class Value {
 public:
  Value() = default;  // NULL
  template <std::integral Integer>
  Value(Integer value) : data_(static_cast<std::int64_t>(value)) {}
  Value(std::string value) : data_(std::move(value)) {}
  Value(std::string_view value) : data_(std::string(value)) {}
  Value(const char* value) : data_(std::string(value)) {}
  Value(Blob value) : data_(std::move(value)) {}
  Value(std::span<const std::byte> bytes)
      : data_(Blob{{reinterpret_cast<const char*>(bytes.data()), bytes.size()}}) {}

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  [[nodiscard]] bool is_integer() const { return std::holds_alternative<std::int64_t>(data_); }
  [[nodiscard]] bool is_blob() const { return std::holds_alternative<Blob>(data_); }
  /// 0, or empty, for what is something else: the schema says what a column is.
  [[nodiscard]] std::int64_t integer() const {
    const auto* value = std::get_if<std::int64_t>(&data_);
    return value != nullptr ? *value : 0;
  }
  [[nodiscard]] const std::string& text() const {
    static const std::string kNone;
    const auto* value = std::get_if<std::string>(&data_);
    return value != nullptr ? *value : kNone;
  }
  [[nodiscard]] std::span<const std::byte> blob() const {
    const auto* value = std::get_if<Blob>(&data_);
    return value != nullptr ? std::as_bytes(std::span(value->bytes)) : std::span<const std::byte>();
  }

 private:
  std::variant<std::monostate, std::int64_t, std::string, Blob> data_;
};

/// Columns count from 0.
class Row {
 public:
  explicit Row(std::vector<Value> values) : values_(std::move(values)) {}

  [[nodiscard]] std::int64_t integer(std::size_t column) const { return values_[column].integer(); }
  [[nodiscard]] std::uint64_t large(std::size_t column) const {
    return static_cast<std::uint64_t>(integer(column));
  }
  [[nodiscard]] std::uint32_t small(std::size_t column) const {
    return static_cast<std::uint32_t>(integer(column));
  }
  [[nodiscard]] const std::string& text(std::size_t column) const { return values_[column].text(); }
  [[nodiscard]] std::span<const std::byte> blob(std::size_t column) const {
    return values_[column].blob();
  }

 private:
  std::vector<Value> values_;
};

/// All of an answer: every question of the store has a bound.
using Rows = std::vector<Row>;

/// A transaction in progress.
class Session {
 public:
  virtual ~Session() = default;

  template <class... Values>
  base::Result<Rows> run(const Statement& statement, const Values&... values) {
    const std::array<Value, sizeof...(values)> parameters{Value(values)...};
    return execute(statement, parameters);
  }

  /// For statements whose answer does not matter.
  template <class... Values>
  base::Status apply(const Statement& statement, const Values&... values) {
    const auto rows = run(statement, values...);
    if (!rows) return base::fail(rows.error());
    return {};
  }

  virtual base::Result<Rows> execute(const Statement& statement,
                                     std::span<const Value> parameters) = 0;
};

/// How a transaction whose body went well ends.
enum class End { kCommit, kRollBack };

/// May be run again from its start, in another transaction, so it changes nothing outside that it
/// does not set anew.
using Body = std::function<base::Result<End>(Session&)>;

/// Writers of one kind follow each other; they would only collide on the row they all change.
enum class Lock { kCatalog, kUsage, kLeases, kOperations };

struct Outcome {
  base::Status status;
  /// The connection was lost while it committed: done or not, nobody said.
  bool in_doubt = false;
};

/// Any thread.
class Driver {
 public:
  virtual ~Driver() = default;

  /// All statements see one moment.
  virtual base::Status read(const Body& body) = 0;
  /// As if nobody else wrote meanwhile, and on disk at the end; or nothing of it.
  virtual Outcome write(Lock lock, const Body& body) = 0;
  /// By the clock that leases go by.
  virtual base::Result<std::int64_t> now_unix_ms(Session& session, std::int64_t callers) = 0;
  virtual base::Result<std::unique_ptr<Watch>> watch(
      std::function<void(std::uint64_t revision)> changed) = 0;
};

/// Of the row that has the number of the last change; watchers of both drivers read it.
inline constexpr Statement kReadRevision{"read_revision",
                                         "SELECT revision FROM state WHERE id = 1"};

}  // namespace conclave::catalog::sql
