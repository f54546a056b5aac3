#include "sql_versions.hpp"

#include <boost/json.hpp>
#include <cstring>

#include "conclave/base/text.hpp"
#include "conclave/catalog/json.hpp"
#include "conclave/wire/limits.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr sql::Statement kFindVersion{"find_version", "SELECT " CONCLAVE_VERSION_COLUMNS
                                                      ", v.metadata FROM model m"
                                                      " JOIN version v ON v.model_id = m.id"
                                                      " WHERE m.name = $1 AND v.number = $2"};
constexpr sql::Statement kFindAliased{"find_aliased",
                                      "SELECT " CONCLAVE_VERSION_COLUMNS
                                      ", v.metadata FROM model m JOIN alias a ON a.model_id = m.id"
                                      " JOIN version v ON v.model_id = m.id AND v.number = a.number"
                                      " WHERE m.name = $1 AND a.name = $2"};
constexpr sql::Statement kFindNewest{"find_newest",
                                     "SELECT " CONCLAVE_VERSION_COLUMNS
                                     ", v.metadata FROM version v WHERE v.name = $1"
                                     " AND v.state = 'published' ORDER BY v.number DESC LIMIT 1"};
// A page of all published versions is what is left of one model, and then the next models.
constexpr sql::Statement kListRest{
    "list_rest", "SELECT " CONCLAVE_VERSION_COLUMNS
                 " FROM version v WHERE v.name = $1 AND v.number < $2 AND v.state = 'published'"
                 " ORDER BY v.number DESC LIMIT $3"};
constexpr sql::Statement kListNext{"list_next",
                                   "SELECT " CONCLAVE_VERSION_COLUMNS
                                   " FROM version v WHERE v.name > $1 AND v.state = 'published'"
                                   " ORDER BY v.name, v.number DESC LIMIT $2"};
constexpr sql::Statement kListOfModel{"list_of_model",
                                      "SELECT " CONCLAVE_VERSION_COLUMNS
                                      " FROM version v WHERE v.model_id = $1 AND v.number < $2"
                                      " ORDER BY v.number DESC LIMIT $3"};
constexpr sql::Statement kAliasesOf{
    "aliases_of", "SELECT name FROM alias WHERE model_id = $1 AND number = $2 ORDER BY name"};
constexpr sql::Statement kChatTemplate{
    "chat_template", "SELECT chat_template FROM digest WHERE model_id = $1 AND number = $2"};
constexpr sql::Statement kFindDigest{
    "find_digest",
    "SELECT d.backbone, d.expert, v.layers, v.experts, v.uri, v.sha256 FROM model m"
    " JOIN version v ON v.model_id = m.id"
    " JOIN digest d ON d.model_id = m.id AND d.number = v.number"
    " WHERE m.name = $1 AND v.number = $2"};
constexpr sql::Statement kSetNotes{
    "set_notes",
    "UPDATE version SET description = $1, licence = $2, source_uri = $3, parent = $4,"
    " metadata = $5, revision = $6 WHERE model_id = $7 AND number = $8"};
constexpr sql::Statement kSetPublished{
    "set_published",
    "UPDATE version SET state = 'published', published_unix_ms = $1, archived_unix_ms = 0,"
    " revision = $2 WHERE model_id = $3 AND number = $4"};
constexpr sql::Statement kSetArchived{
    "set_archived",
    "UPDATE version SET state = 'archived', archived_unix_ms = $1, revision = $2"
    " WHERE model_id = $3 AND number = $4"};
constexpr sql::Statement kDropDigest{"drop_digest",
                                     "DELETE FROM digest WHERE model_id = $1 AND number = $2"};
constexpr sql::Statement kDropVersion{"drop_version",
                                      "DELETE FROM version WHERE model_id = $1 AND number = $2"};
constexpr sql::Statement kOneVersionLess{"one_version_less",
                                         "UPDATE model SET versions = versions - 1 WHERE id = $1"};

VersionState state_of(const std::string& text) {
  if (text == "draft") return VersionState::kDraft;
  return text == "archived" ? VersionState::kArchived : VersionState::kPublished;
}

Result<VersionRow> first(const Result<sql::Rows>& rows, std::string_view reference) {
  if (!rows) return fail(rows.error());
  if (rows->empty()) return no_version(reference);
  CONCLAVE_TRY(VersionRow row, version_row(rows->front()));
  row.version.notes.metadata = rows->front().text(kVersionColumns);
  return row;
}

Result<Version> completed(sql::Session& session, VersionRow row) {
  CONCLAVE_TRY_VOID(add_aliases(session, row));
  CONCLAVE_TRY(const sql::Rows rows,
               session.run(kChatTemplate, row.model_id, row.version.record.model.version));
  if (!rows.empty()) row.version.chat_template = rows.front().text(0);
  return std::move(row.version);
}

std::string subject_of(const VersionRow& row) {
  return format_reference(row.version.record.model.name, row.version.record.model.version);
}

Status wrong_state(const VersionRow& row, const std::string& why) {
  return fail(ErrorCode::kFailedPrecondition,
              subject_of(row) + " is " + std::string(to_string(row.version.state)) + ": " + why);
}

}  // namespace

Result<VersionRow> version_row(const sql::Row& row) {
  VersionRow read;
  Version& version = read.version;
  wire::ModelRecord& record = version.record;
  record.model = {row.text(0), row.small(1), row.text(2), row.text(3)};
  record.bytes = row.large(4);
  record.architecture = row.text(5);
  record.block_types = row.text(6);
  record.parameters = row.large(7);
  record.context_length = row.small(8);
  record.layers = row.small(9);
  record.dense_layers = row.small(10);
  record.experts = row.small(11);
  record.experts_used = row.small(12);
  record.expert_bytes = row.large(13);
  record.backbone_bytes = row.large(14);
  record.created_unix_ms = row.integer(15);
  read.model_id = row.integer(16);
  version.state = state_of(row.text(17));
  CONCLAVE_TRY(version.uris, list_of(row.text(18)));
  version.uris.insert(version.uris.begin(), record.model.uri);
  version.notes = {row.text(19), row.text(20), row.text(21), row.text(22), "{}"};
  version.published_unix_ms = row.integer(23);
  version.archived_unix_ms = row.integer(24);
  version.revision = row.large(25);
  return read;
}

tl::unexpected<base::Error> no_version(std::string_view reference) {
  return fail(ErrorCode::kNotFound, "no model " + base::shown(reference) + " is registered");
}

Result<VersionRow> find_version_in(sql::Session& session, const std::string& name,
                                   std::uint32_t version) {
  return first(session.run(kFindVersion, name, version), format_reference(name, version));
}

Result<VersionRow> resolve_in(sql::Session& session, std::string_view text) {
  CONCLAVE_TRY(const Reference reference, parse_reference(text));
  if (reference.version != 0) {
    return first(session.run(kFindVersion, reference.name, reference.version), text);
  }
  const std::string alias(reference.alias.empty() ? kDefaultAlias
                                                  : std::string_view(reference.alias));
  auto found = first(session.run(kFindAliased, reference.name, alias), text);
  const bool absent = !found && found.error().code == ErrorCode::kNotFound;
  if (!absent || !reference.alias.empty()) return found;
  return first(session.run(kFindNewest, reference.name), text);
}

Status add_aliases(sql::Session& session, VersionRow& row) {
  CONCLAVE_TRY(const sql::Rows rows,
               session.run(kAliasesOf, row.model_id, row.version.record.model.version));
  for (const sql::Row& alias : rows) row.version.record.aliases.push_back(alias.text(0));
  return {};
}

std::string brief_json(const VersionRow& row) {
  Version brief = row.version;
  brief.chat_template.clear();
  return boost::json::serialize(to_json(brief));
}

Status publish_in(Writer& writer, VersionRow& row) {
  Version& version = row.version;
  const std::string before = brief_json(row);
  version.state = VersionState::kPublished;
  version.archived_unix_ms = 0;
  if (version.published_unix_ms == 0) version.published_unix_ms = writer.now_unix_ms();
  version.revision = writer.revision();
  CONCLAVE_TRY_VOID(writer.sql().apply(kSetPublished, version.published_unix_ms, version.revision,
                                       row.model_id, version.record.model.version));
  CONCLAVE_TRY_VOID(writer.audit("version.publish", subject_of(row), before, brief_json(row)));
  return {};
}

Result<wire::ModelRecord> SqlCatalog::resolve(std::string_view reference) {
  return read([reference](sql::Session& session) -> Result<wire::ModelRecord> {
    CONCLAVE_TRY(VersionRow row, resolve_in(session, reference));
    if (row.version.state == VersionState::kDraft) {
      CONCLAVE_TRY_VOID(wrong_state(row, "publish it before it is served"));
    }
    CONCLAVE_TRY_VOID(add_aliases(session, row));
    return std::move(row.version.record);
  });
}

Result<wire::ModelList> SqlCatalog::list(const wire::ListModels& page) {
  CONCLAVE_TRY_VOID(check_limit(page.limit));
  Reference after;  // nothing sorts before the empty name
  if (!page.after.empty()) {
    CONCLAVE_TRY(after, parse_reference(page.after));
    if (after.version == 0) {
      return fail(ErrorCode::kInvalidArgument,
                  "a page starts after a name:version, not " + base::shown(page.after));
    }
  }
  return read([&](sql::Session& session) -> Result<wire::ModelList> {
    // One more than asked for says whether there is another page.
    const std::size_t wanted = std::size_t{page.limit} + 1;
    CONCLAVE_TRY(sql::Rows rows, session.run(kListRest, after.name, after.version, wanted));
    if (rows.size() < wanted) {
      CONCLAVE_TRY(sql::Rows next, session.run(kListNext, after.name, wanted - rows.size()));
      for (sql::Row& row : next) rows.push_back(std::move(row));
    }
    wire::ModelList found;
    if (rows.empty()) return found;
    CONCLAVE_TRY(const auto aliases,
                 aliases_between(session, rows.front().text(0), rows.back().text(0)));
    for (const sql::Row& each : rows) {
      if (found.models.size() == page.limit) {
        found.more = true;
        break;
      }
      CONCLAVE_TRY(VersionRow row, version_row(each));
      wire::ModelRecord& record = row.version.record;
      const auto [from, to] = aliases.equal_range(row.model_id);
      for (auto alias = from; alias != to; ++alias) {
        if (alias->second.version == record.model.version) {
          record.aliases.push_back(alias->second.name);
        }
      }
      found.models.push_back(std::move(record));
    }
    return found;
  });
}

Result<wire::ModelDigests> SqlCatalog::digests(const wire::DigestsRequest& request) {
  return read([&request](sql::Session& session) -> Result<wire::ModelDigests> {
    const std::string reference = format_reference(request.name, request.version);
    CONCLAVE_TRY(const sql::Rows rows, session.run(kFindDigest, request.name, request.version));
    if (rows.empty()) return no_version(reference);
    const sql::Row& row = rows.front();
    wire::ModelDigests digests;
    digests.layers = row.small(2);
    digests.experts = row.small(3);
    digests.model = {request.name, request.version, row.text(4), row.text(5)};
    const auto backbone = row.blob(0);
    const auto expert = row.blob(1);
    const std::size_t count = std::size_t{digests.layers} * digests.experts;
    if (backbone.size() != sizeof(wire::Sha256) || expert.size() != count * sizeof(wire::Sha256)) {
      return fail(ErrorCode::kCorruptData,
                  "the sums of " + reference + " are not those of its experts");
    }
    std::memcpy(digests.backbone.data(), backbone.data(), backbone.size());
    digests.expert.resize(count);
    if (count != 0) std::memcpy(digests.expert.data(), expert.data(), expert.size());
    return digests;
  });
}

Result<Version> SqlCatalog::find_version(const std::string& name, std::uint32_t version) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  return read([&](sql::Session& session) -> Result<Version> {
    CONCLAVE_TRY(VersionRow row, find_version_in(session, name, version));
    return completed(session, std::move(row));
  });
}

Result<VersionPage> SqlCatalog::list_versions(const std::string& name, std::uint32_t before,
                                              std::uint32_t limit) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  CONCLAVE_TRY_VOID(check_limit(limit));
  return read([&](sql::Session& session) -> Result<VersionPage> {
    CONCLAVE_TRY(const std::int64_t model, model_id_in(session, name));
    const std::int64_t below = before == 0 ? INT64_MAX : std::int64_t{before};
    CONCLAVE_TRY(const sql::Rows rows,
                 session.run(kListOfModel, model, below, std::int64_t{limit} + 1));
    CONCLAVE_TRY(const auto aliases, aliases_between(session, name, name));
    VersionPage page;
    for (const sql::Row& each : rows) {
      if (page.versions.size() == limit) {
        page.more = true;
        break;
      }
      CONCLAVE_TRY(VersionRow row, version_row(each));
      for (const auto& [id, alias] : aliases) {
        if (alias.version == row.version.record.model.version) {
          row.version.record.aliases.push_back(alias.name);
        }
      }
      page.versions.push_back(std::move(row.version));
    }
    return page;
  });
}

Result<Version> SqlCatalog::edit_draft(const std::string& name, std::uint32_t version,
                                       const VersionNotes& notes, const Change& with) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  CONCLAVE_TRY_VOID(check_notes(notes));
  return change(with, [&](Writer& writer) -> Result<Version> {
    CONCLAVE_TRY(VersionRow row, find_version_in(writer.sql(), name, version));
    CONCLAVE_TRY_VOID(writer.check_revision(subject_of(row), row.version.revision));
    if (row.version.state != VersionState::kDraft) {
      CONCLAVE_TRY_VOID(wrong_state(row, "only a draft may be described anew"));
    }
    if (row.version.notes != notes) {
      const std::string before = brief_json(row);
      row.version.notes = notes;
      row.version.revision = writer.revision();
      CONCLAVE_TRY_VOID(writer.sql().apply(kSetNotes, notes.description, notes.licence,
                                           notes.source_uri, notes.parent, notes.metadata,
                                           row.version.revision, row.model_id, version));
      CONCLAVE_TRY_VOID(writer.audit("version.edit", subject_of(row), before, brief_json(row)));
    }
    return completed(writer.sql(), std::move(row));
  });
}

Result<Version> SqlCatalog::publish(const std::string& name, std::uint32_t version,
                                    const Change& with) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  return change(with, [&](Writer& writer) -> Result<Version> {
    CONCLAVE_TRY(VersionRow row, find_version_in(writer.sql(), name, version));
    CONCLAVE_TRY_VOID(writer.check_revision(subject_of(row), row.version.revision));
    if (row.version.state != VersionState::kPublished) CONCLAVE_TRY_VOID(publish_in(writer, row));
    return completed(writer.sql(), std::move(row));
  });
}

Result<Version> SqlCatalog::archive(const std::string& name, std::uint32_t version,
                                    const Change& with) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  return change(with, [&](Writer& writer) -> Result<Version> {
    CONCLAVE_TRY(VersionRow row, find_version_in(writer.sql(), name, version));
    CONCLAVE_TRY_VOID(writer.check_revision(subject_of(row), row.version.revision));
    if (row.version.state == VersionState::kArchived) {
      return completed(writer.sql(), std::move(row));
    }
    if (row.version.state == VersionState::kDraft) {
      CONCLAVE_TRY_VOID(wrong_state(row, "remove it, or publish it first"));
    }
    VersionRow with_aliases = row;
    CONCLAVE_TRY_VOID(add_aliases(writer.sql(), with_aliases));
    const auto& aliases = with_aliases.version.record.aliases;
    if (!aliases.empty()) {
      return fail(ErrorCode::kFailedPrecondition,
                  "the alias " + aliases.front() + " points at " + subject_of(row));
    }
    const std::string before = brief_json(row);
    row.version.state = VersionState::kArchived;
    row.version.archived_unix_ms = writer.now_unix_ms();
    row.version.revision = writer.revision();
    CONCLAVE_TRY_VOID(writer.sql().apply(kSetArchived, row.version.archived_unix_ms,
                                         row.version.revision, row.model_id, version));
    CONCLAVE_TRY_VOID(check_deployments_of(writer.sql(), name, version));
    CONCLAVE_TRY_VOID(writer.audit("version.archive", subject_of(row), before, brief_json(row)));
    return completed(writer.sql(), std::move(row));
  });
}

Status SqlCatalog::remove_version(const std::string& name, std::uint32_t version,
                                  const Change& with) {
  CONCLAVE_TRY_VOID(check_name("model name", name));
  return change(with, [&](Writer& writer) -> Status {
    CONCLAVE_TRY(const VersionRow row, find_version_in(writer.sql(), name, version));
    CONCLAVE_TRY_VOID(writer.check_revision(subject_of(row), row.version.revision));
    if (row.version.state == VersionState::kPublished) {
      CONCLAVE_TRY_VOID(wrong_state(row, "archive it first"));
    }
    CONCLAVE_TRY_VOID(writer.sql().apply(kDropDigest, row.model_id, version));
    CONCLAVE_TRY_VOID(writer.sql().apply(kDropVersion, row.model_id, version));
    CONCLAVE_TRY_VOID(writer.sql().apply(kOneVersionLess, row.model_id));
    CONCLAVE_TRY_VOID(writer.audit("version.remove", subject_of(row), brief_json(row), ""));
    return {};
  });
}

}  // namespace conclave::catalog
