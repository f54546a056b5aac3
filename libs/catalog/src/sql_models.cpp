#include "sql_models.hpp"

#include <boost/json.hpp>
#include <utility>

#include "conclave/base/text.hpp"
#include "conclave/catalog/json.hpp"
#include "sql_versions.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

#define CONCLAVE_MODEL_COLUMNS                                                              \
  "m.id, m.name, m.description, m.tags, m.versions, m.created_unix_ms, m.updated_unix_ms, " \
  "m.revision, coalesce((SELECT v.number FROM version v WHERE v.name = m.name AND"          \
  " v.state = 'published' ORDER BY v.number DESC LIMIT 1), 0)"

constexpr sql::Statement kFindModel{"find_model", "SELECT " CONCLAVE_MODEL_COLUMNS
                                                  " FROM model m WHERE m.name = $1"
                                                  " AND m.removed = 0"};
constexpr sql::Statement kListModels{"list_models", "SELECT " CONCLAVE_MODEL_COLUMNS
                                                    " FROM model m WHERE m.name > $1"
                                                    " AND m.removed = 0 ORDER BY m.name LIMIT $2"};
#undef CONCLAVE_MODEL_COLUMNS

constexpr sql::Statement kAnyModel{"any_model",
                                   "SELECT id, next_number, removed FROM model WHERE name = $1"};
constexpr sql::Statement kAddModel{
    "add_model",
    "INSERT INTO model (name, description, tags, created_unix_ms, updated_unix_ms, revision)"
    " VALUES ($1, $2, $3, $4, $4, $5)"};
constexpr sql::Statement kReviveModel{
    "revive_model",
    "UPDATE model SET removed = 0, description = $2, tags = $3, created_unix_ms = $4,"
    " updated_unix_ms = $4, revision = $5 WHERE name = $1"};
constexpr sql::Statement kEditModel{
    "edit_model",
    "UPDATE model SET description = $2, tags = $3, updated_unix_ms = $4, revision = $5"
    " WHERE name = $1"};
constexpr sql::Statement kRemoveModel{
    "remove_model",
    "UPDATE model SET removed = 1, versions = 0, revision = $2, updated_unix_ms = $3"
    " WHERE id = $1"};
constexpr sql::Statement kDropDigests{"drop_digests", "DELETE FROM digest WHERE model_id = $1"};
constexpr sql::Statement kDropVersions{"drop_versions", "DELETE FROM version WHERE model_id = $1"};

Result<Model> model_of(const sql::Row& row, const std::multimap<std::int64_t, AliasRow>& aliases) {
  Model model;
  model.name = row.text(1);
  model.description = row.text(2);
  CONCLAVE_TRY(model.tags, tags_of(row.text(3)));
  model.versions = row.small(4);
  model.created_unix_ms = row.integer(5);
  model.updated_unix_ms = row.integer(6);
  model.revision = row.large(7);
  model.newest = row.small(8);
  const auto [from, to] = aliases.equal_range(row.integer(0));
  for (auto alias = from; alias != to; ++alias) {
    model.aliases.emplace(alias->second.name, alias->second.version);
  }
  return model;
}

struct FoundModel {
  std::int64_t id = 0;
  Model model;
};

Result<FoundModel> find_in(sql::Session& session, const std::string& name) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kFindModel, name));
  if (rows.empty()) return no_model(name);
  CONCLAVE_TRY(const auto aliases, aliases_between(session, name, name));
  CONCLAVE_TRY(Model model, model_of(rows.front(), aliases));
  return FoundModel{rows.front().integer(0), std::move(model)};
}

std::string json_of(const Model& model) { return boost::json::serialize(to_json(model)); }

// Makes it, or brings it back; it must not be there.
Status make(Writer& writer, const std::string& name, const ModelEdit& texts, bool removed) {
  Model model;
  model.name = name;
  model.description = texts.description.value_or("");
  if (texts.tags) model.tags = *texts.tags;
  model.created_unix_ms = model.updated_unix_ms = writer.now_unix_ms();
  model.revision = writer.revision();
  CONCLAVE_TRY_VOID(writer.sql().apply(removed ? kReviveModel : kAddModel, name, model.description,
                                       tags_text(model.tags), model.created_unix_ms,
                                       model.revision));
  CONCLAVE_TRY_VOID(writer.audit("model.create", name, "", json_of(model)));
  return {};
}

Status check_texts(const std::string& name, const ModelEdit& texts) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  if (texts.description) {
    CONCLAVE_TRY_VOID(check_text("description", *texts.description, kTextBytesMax));
  }
  return texts.tags ? check_tags(*texts.tags) : Status();
}

}  // namespace

tl::unexpected<base::Error> no_model(std::string_view name) {
  return fail(ErrorCode::kNotFound, "there is no model " + base::shown(name));
}

Result<std::int64_t> model_id_in(sql::Session& session, const std::string& name) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kAnyModel, name));
  if (rows.empty() || rows.front().integer(2) != 0) return no_model(name);
  return rows.front().integer(0);
}

Result<ModelRow> ensure_model(Writer& writer, const std::string& name) {
  CONCLAVE_TRY(sql::Rows rows, writer.sql().run(kAnyModel, name));
  if (rows.empty() || rows.front().integer(2) != 0) {
    CONCLAVE_TRY_VOID(make(writer, name, {}, !rows.empty()));
    CONCLAVE_TRY(rows, writer.sql().run(kAnyModel, name));
  }
  const std::int64_t next = rows.front().integer(1);
  return ModelRow{rows.front().integer(0),
                  next > UINT32_MAX ? 0 : static_cast<std::uint32_t>(next)};
}

Result<Model> SqlCatalog::create_model(const std::string& name, const ModelEdit& texts,
                                       const Change& with) {
  CONCLAVE_TRY_VOID(check_texts(name, texts));
  return change(with, [&](Writer& writer) -> Result<Model> {
    CONCLAVE_TRY(const sql::Rows rows, writer.sql().run(kAnyModel, name));
    if (!rows.empty() && rows.front().integer(2) == 0) {
      return fail(ErrorCode::kFailedPrecondition, "there is a model " + name + " already");
    }
    CONCLAVE_TRY_VOID(make(writer, name, texts, !rows.empty()));
    CONCLAVE_TRY(FoundModel found, find_in(writer.sql(), name));
    return std::move(found.model);
  });
}

Result<Model> SqlCatalog::find_model(const std::string& name) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  return read([&name](sql::Session& session) -> Result<Model> {
    CONCLAVE_TRY(FoundModel found, find_in(session, name));
    return std::move(found.model);
  });
}

Result<ModelPage> SqlCatalog::list_models(const std::string& after, std::uint32_t limit) {
  CONCLAVE_TRY_VOID(check_limit(limit));
  if (!after.empty()) CONCLAVE_TRY_VOID(check_name("after", after));
  return read([&](sql::Session& session) -> Result<ModelPage> {
    CONCLAVE_TRY(const sql::Rows rows, session.run(kListModels, after, std::int64_t{limit} + 1));
    ModelPage page;
    if (rows.empty()) return page;
    CONCLAVE_TRY(const auto aliases,
                 aliases_between(session, rows.front().text(1), rows.back().text(1)));
    for (const sql::Row& row : rows) {
      if (page.models.size() == limit) {
        page.more = true;
        break;
      }
      CONCLAVE_TRY(Model model, model_of(row, aliases));
      page.models.push_back(std::move(model));
    }
    return page;
  });
}

Result<Model> SqlCatalog::edit_model(const std::string& name, const ModelEdit& edit,
                                     const Change& with) {
  CONCLAVE_TRY_VOID(check_texts(name, edit));
  return change(with, [&](Writer& writer) -> Result<Model> {
    CONCLAVE_TRY(FoundModel found, find_in(writer.sql(), name));
    Model& model = found.model;
    CONCLAVE_TRY_VOID(writer.check_revision("model " + name, model.revision));
    const Model before = model;
    if (edit.description) model.description = *edit.description;
    if (edit.tags) model.tags = *edit.tags;
    if (model == before) return std::move(model);
    model.updated_unix_ms = writer.now_unix_ms();
    model.revision = writer.revision();
    CONCLAVE_TRY_VOID(writer.sql().apply(kEditModel, name, model.description, tags_text(model.tags),
                                         model.updated_unix_ms, model.revision));
    CONCLAVE_TRY_VOID(writer.audit("model.edit", name, json_of(before), json_of(model)));
    return std::move(model);
  });
}

Status SqlCatalog::remove_model(const std::string& name, const Change& with) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  return change(with, [&](Writer& writer) -> Status {
    CONCLAVE_TRY(const FoundModel found, find_in(writer.sql(), name));
    CONCLAVE_TRY_VOID(writer.check_revision("model " + name, found.model.revision));
    // Aliases point at published versions only.
    if (found.model.newest != 0) {
      return fail(ErrorCode::kFailedPrecondition,
                  format_reference(name, found.model.newest) + " is published: archive it first");
    }
    CONCLAVE_TRY_VOID(writer.sql().apply(kDropDigests, found.id));
    CONCLAVE_TRY_VOID(writer.sql().apply(kDropVersions, found.id));
    CONCLAVE_TRY_VOID(
        writer.sql().apply(kRemoveModel, found.id, writer.revision(), writer.now_unix_ms()));
    CONCLAVE_TRY_VOID(check_deployments_of(writer.sql(), name, 0));
    CONCLAVE_TRY_VOID(writer.audit("model.remove", name, json_of(found.model), ""));
    return {};
  });
}

}  // namespace conclave::catalog
