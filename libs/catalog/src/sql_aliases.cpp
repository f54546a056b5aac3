#include <boost/json.hpp>

#include "conclave/base/text.hpp"
#include "conclave/catalog/json.hpp"
#include "sql_versions.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr sql::Statement kFindAlias{
    "find_alias",
    "SELECT m.name, a.name, a.number, a.updated_unix_ms, a.revision, a.model_id FROM model m"
    " JOIN alias a ON a.model_id = m.id WHERE m.name = $1 AND a.name = $2"};
constexpr sql::Statement kListAliases{
    "list_aliases",
    "SELECT m.name, a.name, a.number, a.updated_unix_ms, a.revision, a.model_id FROM model m"
    " JOIN alias a ON a.model_id = m.id WHERE m.name = $1 ORDER BY a.name"};
constexpr sql::Statement kAliasesBetween{
    "aliases_between",
    "SELECT a.model_id, a.name, a.number FROM model m JOIN alias a ON a.model_id = m.id"
    " WHERE m.name >= $1 AND m.name <= $2 ORDER BY m.name, a.name"};
constexpr sql::Statement kSetAlias{
    "set_alias",
    "INSERT INTO alias (model_id, name, number, updated_unix_ms, revision)"
    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (model_id, name) DO UPDATE"
    " SET number = excluded.number, updated_unix_ms = excluded.updated_unix_ms,"
    " revision = excluded.revision"};
constexpr sql::Statement kCountAliases{"count_aliases",
                                       "SELECT count(*) FROM alias WHERE model_id = $1"};
constexpr sql::Statement kDropAlias{"drop_alias",
                                    "DELETE FROM alias WHERE model_id = $1 AND name = $2"};

Alias alias_of(const sql::Row& row) {
  return {row.text(0), row.text(1), row.small(2), row.integer(3), row.large(4)};
}

std::string subject_of(const std::string& model, const std::string& alias) {
  return model + "@" + alias;
}

std::string json_of(const Alias& alias) { return boost::json::serialize(to_json(alias)); }

auto no_alias(const std::string& model, const std::string& alias) {
  return fail(ErrorCode::kNotFound, "there is no alias " + base::shown(subject_of(model, alias)));
}

Status check_names(const std::string& model, const std::string& alias) {
  CONCLAVE_TRY_VOID(check_name("model name", model));
  return check_name("alias", alias);
}

}  // namespace

Result<std::multimap<std::int64_t, AliasRow>> aliases_between(sql::Session& session,
                                                              const std::string& first,
                                                              const std::string& last) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kAliasesBetween, first, last));
  std::multimap<std::int64_t, AliasRow> aliases;
  for (const sql::Row& row : rows) {
    aliases.emplace(row.integer(0), AliasRow{row.text(1), row.small(2)});
  }
  return aliases;
}

Result<Alias> point_alias(Writer& writer, const VersionRow& target, const AliasMove& move) {
  const std::string subject = subject_of(move.model, move.alias);
  CONCLAVE_TRY(const sql::Rows rows, writer.sql().run(kFindAlias, move.model, move.alias));
  const Alias before = rows.empty() ? Alias{} : alias_of(rows.front());
  if (move.if_version && *move.if_version != before.version) {
    const auto shown = [](std::uint32_t version) {
      return version == 0 ? std::string("absent") : "at version " + std::to_string(version);
    };
    return fail(conflict(subject, shown(before.version), shown(*move.if_version)));
  }
  if (target.version.state != VersionState::kPublished) {
    return fail(ErrorCode::kFailedPrecondition, format_reference(move.model, move.version) +
                                                    " is " +
                                                    std::string(to_string(target.version.state)) +
                                                    ": aliases point at published versions");
  }
  if (before.version == move.version) return before;
  const Alias after{move.model, move.alias, move.version, writer.now_unix_ms(), writer.revision()};
  CONCLAVE_TRY_VOID(writer.sql().apply(kSetAlias, target.model_id, move.alias, move.version,
                                       after.updated_unix_ms, after.revision));
  CONCLAVE_TRY(const sql::Rows count, writer.sql().run(kCountAliases, target.model_id));
  if (count.front().large(0) > kAliasesMax) {
    return fail(ErrorCode::kOverloaded,
                "a model has at most " + std::to_string(kAliasesMax) + " aliases");
  }
  CONCLAVE_TRY_VOID(
      writer.audit("alias.move", subject, rows.empty() ? "" : json_of(before), json_of(after)));
  return after;
}

Result<Alias> SqlCatalog::move_alias(const AliasMove& move, const Change& with) {
  CONCLAVE_TRY_VOID(check_names(move.model, move.alias));
  return change(with, [&](Writer& writer) -> Result<Alias> {
    CONCLAVE_TRY(const VersionRow target, find_version_in(writer.sql(), move.model, move.version));
    CONCLAVE_TRY(const sql::Rows rows, writer.sql().run(kFindAlias, move.model, move.alias));
    CONCLAVE_TRY_VOID(writer.check_revision(subject_of(move.model, move.alias),
                                            rows.empty() ? 0 : alias_of(rows.front()).revision));
    return point_alias(writer, target, move);
  });
}

Result<Alias> SqlCatalog::find_alias(const std::string& model, const std::string& alias) {
  CONCLAVE_TRY_VOID(check_names(model, alias));
  return read([&](sql::Session& session) -> Result<Alias> {
    CONCLAVE_TRY(const sql::Rows rows, session.run(kFindAlias, model, alias));
    if (rows.empty()) return no_alias(model, alias);
    return alias_of(rows.front());
  });
}

Result<std::vector<Alias>> SqlCatalog::list_aliases(const std::string& model) {
  CONCLAVE_TRY_VOID(check_name("model name", model));
  return read([&model](sql::Session& session) -> Result<std::vector<Alias>> {
    CONCLAVE_TRY_VOID(model_id_in(session, model));
    CONCLAVE_TRY(const sql::Rows rows, session.run(kListAliases, model));
    std::vector<Alias> aliases;
    for (const sql::Row& row : rows) aliases.push_back(alias_of(row));
    return aliases;
  });
}

Status SqlCatalog::remove_alias(const std::string& model, const std::string& alias,
                                const Change& with) {
  CONCLAVE_TRY_VOID(check_names(model, alias));
  return change(with, [&](Writer& writer) -> Status {
    CONCLAVE_TRY(const sql::Rows rows, writer.sql().run(kFindAlias, model, alias));
    if (rows.empty()) return no_alias(model, alias);
    const Alias before = alias_of(rows.front());
    CONCLAVE_TRY_VOID(writer.check_revision(subject_of(model, alias), before.revision));
    CONCLAVE_TRY_VOID(writer.sql().apply(kDropAlias, rows.front().integer(5), alias));
    CONCLAVE_TRY_VOID(check_deployments_of(writer.sql(), model, 0));
    CONCLAVE_TRY_VOID(writer.audit("alias.remove", subject_of(model, alias), json_of(before), ""));
    return {};
  });
}

}  // namespace conclave::catalog
