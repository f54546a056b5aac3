#include "conclave/catalog/sqlite_catalog.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "conclave/base/text.hpp"
#include "conclave/catalog/reference.hpp"
#include "conclave/wire/limits.hpp"
#include "schema.hpp"
#include "sqlite.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
using sqlite::Database;
using sqlite::Reset;
using sqlite::Statement;

// The columns of read_record, in its order.
#define CONCLAVE_RECORD_COLUMNS                                                               \
  "m.name, v.number, v.uri, v.sha256, v.bytes, v.architecture, v.block_types, v.parameters, " \
  "v.context_length, v.layers, v.dense_layers, v.experts, v.experts_used, v.expert_bytes, "   \
  "v.backbone_bytes, v.created_unix_ms, v.model_id"

constexpr const char* kFindVersion = "SELECT " CONCLAVE_RECORD_COLUMNS
                                     " FROM model m JOIN version v ON v.model_id = m.id"
                                     " WHERE m.name = ? AND v.number = ?";
constexpr const char* kFindAlias = "SELECT " CONCLAVE_RECORD_COLUMNS
                                   " FROM model m JOIN alias a ON a.model_id = m.id"
                                   " JOIN version v ON v.model_id = m.id AND v.number = a.number"
                                   " WHERE m.name = ? AND a.name = ?";
constexpr const char* kFindNewest = "SELECT " CONCLAVE_RECORD_COLUMNS
                                    " FROM model m JOIN version v ON v.model_id = m.id"
                                    " WHERE m.name = ? ORDER BY v.number DESC LIMIT 1";
constexpr const char* kList = "SELECT " CONCLAVE_RECORD_COLUMNS
                              " FROM model m JOIN version v ON v.model_id = m.id"
                              " WHERE m.name > ?1 OR (m.name = ?1 AND v.number < ?2)"
                              " ORDER BY m.name, v.number DESC LIMIT ?3";
constexpr const char* kAliasesOf =
    "SELECT name FROM alias WHERE model_id = ? AND number = ? ORDER BY name";
constexpr const char* kAddModel = "INSERT INTO model (name) VALUES (?) ON CONFLICT DO NOTHING";
constexpr const char* kModelId = "SELECT id FROM model WHERE name = ?";
constexpr const char* kSameBytes = "SELECT number FROM version WHERE model_id = ? AND sha256 = ?";
constexpr const char* kNextNumber =
    "SELECT coalesce(max(number), 0) + 1 FROM version WHERE model_id = ?";
constexpr const char* kAddVersion =
    "INSERT INTO version (model_id, number, sha256, uri, bytes, architecture, block_types,"
    " parameters, context_length, layers, dense_layers, experts, experts_used, expert_bytes,"
    " backbone_bytes, created_unix_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
constexpr const char* kAddDigest =
    "INSERT INTO digest (model_id, number, backbone, expert) VALUES (?,?,?,?)";
constexpr const char* kMoveUri = "UPDATE version SET uri = ? WHERE model_id = ? AND number = ?";
constexpr const char* kSetAlias =
    "INSERT INTO alias (model_id, name, number) VALUES (?,?,?)"
    " ON CONFLICT DO UPDATE SET number = excluded.number";
constexpr const char* kCountAliases = "SELECT count(*) FROM alias WHERE model_id = ?";
constexpr const char* kFindDigest =
    "SELECT d.backbone, d.expert, v.layers, v.experts, v.uri, v.sha256 FROM model m"
    " JOIN version v ON v.model_id = m.id"
    " JOIN digest d ON d.model_id = m.id AND d.number = v.number"
    " WHERE m.name = ? AND v.number = ?";

#undef CONCLAVE_RECORD_COLUMNS

std::uint32_t small(const Statement& row, int column) {
  return static_cast<std::uint32_t>(row.integer(column));
}

std::uint64_t large(const Statement& row, int column) {
  return static_cast<std::uint64_t>(row.integer(column));
}

std::int64_t stored(std::uint64_t value) { return static_cast<std::int64_t>(value); }

struct Row {
  wire::ModelRecord record;  // without its aliases
  std::int64_t model_id = 0;
};

Row read_record(const Statement& row) {
  Row read;
  wire::ModelRecord& record = read.record;
  record.model = {row.text(0), small(row, 1), row.text(2), row.text(3)};
  record.bytes = large(row, 4);
  record.architecture = row.text(5);
  record.block_types = row.text(6);
  record.parameters = large(row, 7);
  record.context_length = small(row, 8);
  record.layers = small(row, 9);
  record.dense_layers = small(row, 10);
  record.experts = small(row, 11);
  record.experts_used = small(row, 12);
  record.expert_bytes = large(row, 13);
  record.backbone_bytes = large(row, 14);
  record.created_unix_ms = row.integer(15);
  read.model_id = row.integer(16);
  return read;
}

auto no_version(std::string_view reference) {
  return fail(ErrorCode::kNotFound, "no model " + base::shown(reference) + " is registered");
}

}  // namespace

class SqliteCatalog::Impl {
 public:
  static Result<std::unique_ptr<Impl>> open(const std::filesystem::path& path) {
    CONCLAVE_TRY(Database database, Database::open(path.string(), kLockWaitMs));
    CONCLAVE_TRY_VOID(prepare_file(database));
    std::unique_ptr<Impl> impl(new Impl(std::move(database)));
    CONCLAVE_TRY_VOID(impl->prepare());
    return impl;
  }

  Result<wire::ModelRecord> add(const ModelScan& scan, const std::string& uri,
                                std::span<const std::string> aliases, std::int64_t now_unix_ms) {
    const std::string& name = scan.record.model.name;
    CONCLAVE_TRY_VOID(check_name("model name", name));
    for (const std::string& alias : aliases) CONCLAVE_TRY_VOID(check_name("alias", alias));
    std::int64_t number = 0;
    const Status done = database_.transaction([&]() -> Status {
      CONCLAVE_TRY_VOID(add_model_.run(std::string_view(name)));
      CONCLAVE_TRY(const auto model, integer(model_id_, std::string_view(name)));
      CONCLAVE_TRY(const auto same, integer(same_bytes_, *model, scan.record.model.sha256));
      if (same) {
        number = *same;
        CONCLAVE_TRY_VOID(move_uri_.run(uri, *model, number));
      } else {
        CONCLAVE_TRY(const auto next, integer(next_number_, *model));
        number = *next;
        CONCLAVE_TRY_VOID(insert(scan, uri, *model, number, now_unix_ms));
      }
      for (const std::string& alias : aliases) CONCLAVE_TRY_VOID(point(*model, alias, number));
      return {};
    });
    CONCLAVE_TRY_VOID(done);
    return find_version(name, static_cast<std::uint32_t>(number));
  }

  Result<wire::ModelRecord> resolve(std::string_view text) {
    CONCLAVE_TRY(const Reference reference, parse_reference(text));
    if (reference.version != 0) return find_version(reference.name, reference.version);
    const std::string_view alias = reference.alias.empty() ? kDefaultAlias : reference.alias;
    CONCLAVE_TRY(auto record, find(find_alias_, std::string_view(reference.name), alias));
    if (!record && reference.alias.empty()) {
      CONCLAVE_TRY(record, find(find_newest_, std::string_view(reference.name)));
    }
    if (!record) return no_version(text);
    return std::move(*record);
  }

  Result<wire::ModelList> list(const wire::ListModels& page) {
    if (page.limit == 0 || page.limit > wire::kListMax) {
      return fail(ErrorCode::kInvalidArgument, "a page has 1 to " + std::to_string(wire::kListMax) +
                                                   " models, not " + std::to_string(page.limit));
    }
    Reference after;  // nothing sorts before the empty name
    if (!page.after.empty()) {
      CONCLAVE_TRY(after, parse_reference(page.after));
      if (after.version == 0) {
        return fail(ErrorCode::kInvalidArgument,
                    "a page starts after a name:version, not " + base::shown(page.after));
      }
    }
    // One more than asked for says whether there is another page.
    CONCLAVE_TRY_VOID(list_.bind(after.name, after.version, std::int64_t{page.limit} + 1));
    const Reset reset(list_);
    wire::ModelList found;
    while (true) {
      CONCLAVE_TRY(const bool more, list_.step());
      if (!more) return found;
      if (found.models.size() == page.limit) {
        found.more = true;
        return found;
      }
      CONCLAVE_TRY(auto record, complete(read_record(list_)));
      found.models.push_back(std::move(record));
    }
  }

  Result<wire::ModelRecord> set_alias(const wire::SetAlias& alias) {
    CONCLAVE_TRY_VOID(check_name("model name", alias.name));
    CONCLAVE_TRY_VOID(check_name("alias", alias.alias));
    const Status done = database_.transaction([&]() -> Status {
      CONCLAVE_TRY_VOID(find_version(alias.name, alias.version));
      CONCLAVE_TRY(const auto model, integer(model_id_, alias.name));
      return point(*model, alias.alias, alias.version);
    });
    CONCLAVE_TRY_VOID(done);
    return find_version(alias.name, alias.version);
  }

  Result<wire::ModelDigests> digests(const wire::DigestsRequest& request) {
    CONCLAVE_TRY_VOID(find_digest_.bind(request.name, request.version));
    const Reset reset(find_digest_);
    CONCLAVE_TRY(const bool found, find_digest_.step());
    if (!found) return no_version(format_reference(request.name, request.version));
    wire::ModelDigests digests;
    digests.layers = small(find_digest_, 2);
    digests.experts = small(find_digest_, 3);
    digests.model = {request.name, request.version, find_digest_.text(4), find_digest_.text(5)};
    const auto backbone = find_digest_.blob(0);
    const auto expert = find_digest_.blob(1);
    const std::size_t count = std::size_t{digests.layers} * digests.experts;
    if (backbone.size() != sizeof(wire::Sha256) || expert.size() != count * sizeof(wire::Sha256)) {
      return fail(ErrorCode::kCorruptData, "the sums of " +
                                               format_reference(request.name, request.version) +
                                               " are not those of its experts");
    }
    std::memcpy(digests.backbone.data(), backbone.data(), backbone.size());
    digests.expert.resize(count);
    if (count != 0) std::memcpy(digests.expert.data(), expert.data(), expert.size());
    return digests;
  }

 private:
  explicit Impl(Database database) : database_(std::move(database)) {}

  // Before anything else is read from or written to the file.
  static Status prepare_file(Database& database) {
    CONCLAVE_TRY_VOID(database.use_write_ahead_log(kLockWaitMs));
    // A commit is on disk before it is acknowledged.
    CONCLAVE_TRY_VOID(database.execute("PRAGMA synchronous = FULL"));
    CONCLAVE_TRY_VOID(migrate(database));
    // A catalog has megabytes at most, so damage is found now and not in the middle of a night.
    const auto health = database.text("PRAGMA quick_check(1)");
    if (!health) return fail(health.error());
    if (*health != "ok")
      return fail(ErrorCode::kCorruptData, "the database is damaged: " + *health);
    return {};
  }

  Status prepare() {
    for (const auto& [statement, sql] : {std::pair{&find_version_, kFindVersion},
                                         {&find_alias_, kFindAlias},
                                         {&find_newest_, kFindNewest},
                                         {&list_, kList},
                                         {&aliases_of_, kAliasesOf},
                                         {&add_model_, kAddModel},
                                         {&model_id_, kModelId},
                                         {&same_bytes_, kSameBytes},
                                         {&next_number_, kNextNumber},
                                         {&add_version_, kAddVersion},
                                         {&add_digest_, kAddDigest},
                                         {&move_uri_, kMoveUri},
                                         {&set_alias_, kSetAlias},
                                         {&count_aliases_, kCountAliases},
                                         {&find_digest_, kFindDigest}}) {
      CONCLAVE_TRY(*statement, database_.prepare(sql));
    }
    return {};
  }

  // The first column of the first row, if there is one.
  template <class... Values>
  static Result<std::optional<std::int64_t>> integer(Statement& statement,
                                                     const Values&... values) {
    CONCLAVE_TRY_VOID(statement.bind(values...));
    const Reset reset(statement);
    CONCLAVE_TRY(const bool row, statement.step());
    if (!row) return std::optional<std::int64_t>();
    return std::optional(statement.integer(0));
  }

  template <class... Values>
  Result<std::optional<wire::ModelRecord>> find(Statement& statement, const Values&... values) {
    CONCLAVE_TRY_VOID(statement.bind(values...));
    const Reset reset(statement);
    CONCLAVE_TRY(const bool row, statement.step());
    if (!row) return std::optional<wire::ModelRecord>();
    CONCLAVE_TRY(wire::ModelRecord record, complete(read_record(statement)));
    return std::optional(std::move(record));
  }

  Result<wire::ModelRecord> find_version(const std::string& name, std::uint32_t version) {
    CONCLAVE_TRY(auto record, find(find_version_, name, version));
    if (!record) return no_version(format_reference(name, version));
    return std::move(*record);
  }

  Result<wire::ModelRecord> complete(Row row) {
    CONCLAVE_TRY_VOID(aliases_of_.bind(row.model_id, row.record.model.version));
    const Reset reset(aliases_of_);
    while (true) {
      CONCLAVE_TRY(const bool more, aliases_of_.step());
      if (!more) return std::move(row.record);
      row.record.aliases.push_back(aliases_of_.text(0));
    }
  }

  Status insert(const ModelScan& scan, const std::string& uri, std::int64_t model,
                std::int64_t number, std::int64_t now_unix_ms) {
    const wire::ModelRecord& r = scan.record;
    CONCLAVE_TRY_VOID(add_version_.run(
        model, number, r.model.sha256, uri, stored(r.bytes), r.architecture, r.block_types,
        stored(r.parameters), r.context_length, r.layers, r.dense_layers, r.experts, r.experts_used,
        stored(r.expert_bytes), stored(r.backbone_bytes), now_unix_ms));
    return add_digest_.run(model, number, std::as_bytes(std::span(scan.digests.backbone)),
                           std::as_bytes(std::span(scan.digests.expert)));
  }

  Status point(std::int64_t model, const std::string& alias, std::int64_t number) {
    CONCLAVE_TRY_VOID(set_alias_.run(model, alias, number));
    CONCLAVE_TRY(const auto count, integer(count_aliases_, model));
    if (*count <= static_cast<std::int64_t>(kAliasesMax)) return {};
    return fail(ErrorCode::kOverloaded,
                "a model has at most " + std::to_string(kAliasesMax) + " aliases");
  }

  Database database_;  // first: statements must not outlive it
  Statement find_version_, find_alias_, find_newest_, list_, aliases_of_, add_model_, model_id_,
      same_bytes_, next_number_, add_version_, add_digest_, move_uri_, set_alias_, count_aliases_,
      find_digest_;
};

SqliteCatalog::SqliteCatalog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SqliteCatalog::~SqliteCatalog() = default;

Result<std::unique_ptr<SqliteCatalog>> SqliteCatalog::open(const std::filesystem::path& path) {
  auto impl = Impl::open(path);
  if (!impl) return fail(impl.error().within("catalog " + base::shown(path.string())));
  return std::unique_ptr<SqliteCatalog>(new SqliteCatalog(std::move(*impl)));
}

Result<wire::ModelRecord> SqliteCatalog::add(const ModelScan& scan, const std::string& uri,
                                             std::span<const std::string> aliases,
                                             std::int64_t now_unix_ms) {
  return impl_->add(scan, uri, aliases, now_unix_ms);
}

Result<wire::ModelRecord> SqliteCatalog::resolve(std::string_view reference) {
  return impl_->resolve(reference);
}

Result<wire::ModelList> SqliteCatalog::list(const wire::ListModels& page) {
  return impl_->list(page);
}

Result<wire::ModelRecord> SqliteCatalog::set_alias(const wire::SetAlias& alias) {
  return impl_->set_alias(alias);
}

Result<wire::ModelDigests> SqliteCatalog::digests(const wire::DigestsRequest& request) {
  return impl_->digests(request);
}

}  // namespace conclave::catalog
