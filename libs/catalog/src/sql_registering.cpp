// A scanned file becomes a version.
#include <algorithm>
#include <boost/json.hpp>

#include "conclave/catalog/json.hpp"
#include "sql_models.hpp"
#include "sql_versions.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;

constexpr sql::Statement kSameBytes{
    "same_bytes", "SELECT number FROM version WHERE model_id = $1 AND sha256 = $2"};
constexpr sql::Statement kAddVersion{
    "add_version",
    "INSERT INTO version (model_id, number, sha256, uri, bytes, architecture, block_types,"
    " parameters, context_length, layers, dense_layers, experts, experts_used, expert_bytes,"
    " backbone_bytes, created_unix_ms, name, state, description, licence, source_uri, parent,"
    " metadata, published_unix_ms, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,"
    " $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)"};
constexpr sql::Statement kAddDigest{
    "add_digest",
    "INSERT INTO digest (model_id, number, backbone, expert, chat_template)"
    " VALUES ($1, $2, $3, $4, $5)"};
constexpr sql::Statement kOneVersionMore{
    "one_version_more",
    "UPDATE model SET versions = versions + 1, next_number = next_number + 1 WHERE id = $1"};
constexpr sql::Statement kMoveUri{
    "move_uri", "UPDATE version SET uri = $1, more_uris = $2 WHERE model_id = $3 AND number = $4"};

Status check_new(const ModelScan& scan, const NewVersion& version) {
  CONCLAVE_TRY_VOID(check_name("model name", scan.record.model.name));
  for (const std::string& alias : version.aliases) CONCLAVE_TRY_VOID(check_name("alias", alias));
  CONCLAVE_TRY_VOID(check_text("uri", version.uri, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_notes(version.notes));
  if (version.draft && !version.aliases.empty()) {
    return fail(ErrorCode::kInvalidArgument, "aliases of a draft: publish it first");
  }
  // They come from a file.
  CONCLAVE_TRY_VOID(check_text("architecture", scan.record.architecture, kTextBytesMax));
  CONCLAVE_TRY_VOID(check_text("licence", scan.licence, kTextBytesMax));
  return check_text("chat_template", scan.chat_template, kTemplateBytesMax);
}

VersionRow made(const ModelScan& scan, const NewVersion& wanted, const ModelRow& model,
                const Writer& writer) {
  VersionRow row;
  row.model_id = model.id;
  Version& version = row.version;
  version.record = scan.record;
  version.record.model.version = model.next_number;
  version.record.model.uri = wanted.uri;
  version.record.created_unix_ms = writer.now_unix_ms();
  version.record.aliases.clear();
  version.state = wanted.draft ? VersionState::kDraft : VersionState::kPublished;
  version.uris = {wanted.uri};
  version.notes = wanted.notes;
  if (version.notes.licence.empty()) version.notes.licence = scan.licence;
  if (version.notes.source_uri.empty()) version.notes.source_uri = wanted.uri;
  version.published_unix_ms = wanted.draft ? 0 : writer.now_unix_ms();
  version.revision = writer.revision();
  return row;
}

Status insert(Writer& writer, const VersionRow& row, const ModelScan& scan) {
  const Version& version = row.version;
  const wire::ModelRecord& r = version.record;
  const VersionNotes& notes = version.notes;
  sql::Session& sql = writer.sql();
  CONCLAVE_TRY_VOID(sql.apply(
      kAddVersion, row.model_id, r.model.version, r.model.sha256, r.model.uri, r.bytes,
      r.architecture, r.block_types, r.parameters, r.context_length, r.layers, r.dense_layers,
      r.experts, r.experts_used, r.expert_bytes, r.backbone_bytes, r.created_unix_ms, r.model.name,
      to_string(version.state), notes.description, notes.licence, notes.source_uri, notes.parent,
      notes.metadata, version.published_unix_ms, version.revision));
  CONCLAVE_TRY_VOID(sql.apply(kAddDigest, row.model_id, r.model.version,
                              std::as_bytes(std::span(scan.digests.backbone)),
                              std::as_bytes(std::span(scan.digests.expert)), scan.chat_template));
  CONCLAVE_TRY_VOID(sql.apply(kOneVersionMore, row.model_id));
  CONCLAVE_TRY_VOID(writer.audit("version.add", format_reference(r.model.name, r.model.version), "",
                                 brief_json(row)));
  return {};
}

// The same bytes lie somewhere else now, too.
Status note_uri(Writer& writer, VersionRow& row, const std::string& uri) {
  Version& version = row.version;
  if (version.record.model.uri == uri) return {};
  const std::string before = brief_json(row);
  std::erase(version.uris, uri);
  version.uris.insert(version.uris.begin(), uri);
  if (version.uris.size() > kUrisMax) version.uris.resize(kUrisMax);
  version.record.model.uri = uri;
  CONCLAVE_TRY_VOID(writer.sql().apply(kMoveUri, uri,
                                       list_text({version.uris.begin() + 1, version.uris.end()}),
                                       row.model_id, version.record.model.version));
  CONCLAVE_TRY_VOID(writer.audit(
      "version.relocate", format_reference(version.record.model.name, version.record.model.version),
      before, brief_json(row)));
  return {};
}

}  // namespace

Result<Version> SqlCatalog::add_version(const ModelScan& scan, const NewVersion& wanted,
                                        const Change& with) {
  CONCLAVE_TRY_VOID(check_new(scan, wanted));
  const std::string& name = scan.record.model.name;
  return change(with, [&](Writer& writer) -> Result<Version> {
    sql::Session& sql = writer.sql();
    CONCLAVE_TRY(const ModelRow model, ensure_model(writer, name));
    CONCLAVE_TRY(const sql::Rows same, sql.run(kSameBytes, model.id, scan.record.model.sha256));
    VersionRow row;
    if (same.empty()) {
      if (model.next_number == 0) return fail(ErrorCode::kOverloaded, "no more numbers in " + name);
      row = made(scan, wanted, model, writer);
      CONCLAVE_TRY_VOID(insert(writer, row, scan));
    } else {
      CONCLAVE_TRY(row, find_version_in(sql, name, same.front().small(0)));
      CONCLAVE_TRY_VOID(note_uri(writer, row, wanted.uri));
      if (row.version.state == VersionState::kDraft && !wanted.draft) {
        CONCLAVE_TRY_VOID(publish_in(writer, row));
      }
    }
    for (const std::string& alias : wanted.aliases) {
      const std::uint32_t number = row.version.record.model.version;
      CONCLAVE_TRY_VOID(point_alias(writer, row, {name, alias, number, {}}));
    }
    CONCLAVE_TRY_VOID(add_aliases(sql, row));
    row.version.chat_template = scan.chat_template;
    return std::move(row.version);
  });
}

}  // namespace conclave::catalog
