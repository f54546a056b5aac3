// What the files of models, versions, aliases and deployments need of each other.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/catalog/records.hpp"
#include "conclave/catalog/reference.hpp"
#include "sql.hpp"
#include "sql_catalog.hpp"

namespace conclave::catalog {

/// A version as its row says, with the id of its model.
struct VersionRow {
  Version version;  // no aliases, no chat template; no metadata either in listings
  std::int64_t model_id = 0;
};

/// The columns that version_row() reads, in its order; the last is the metadata.
#define CONCLAVE_VERSION_COLUMNS                                                              \
  "v.name, v.number, v.uri, v.sha256, v.bytes, v.architecture, v.block_types, v.parameters, " \
  "v.context_length, v.layers, v.dense_layers, v.experts, v.experts_used, v.expert_bytes, "   \
  "v.backbone_bytes, v.created_unix_ms, v.model_id, v.state, v.more_uris, v.description, "    \
  "v.licence, v.source_uri, v.parent, v.published_unix_ms, v.archived_unix_ms, v.revision"
base::Result<VersionRow> version_row(const sql::Row& row);
/// One past them.
inline constexpr std::size_t kVersionColumns = 26;

/// kNotFound, in the words that people wrote.
tl::unexpected<base::Error> no_version(std::string_view reference);
tl::unexpected<base::Error> no_model(std::string_view name);

/// A version in whatever state, without its chat template. kNotFound.
base::Result<VersionRow> find_version_in(sql::Session& session, const std::string& name,
                                         std::uint32_t version);

/// As Models::resolve, but drafts are given, too.
base::Result<VersionRow> resolve_in(sql::Session& session, std::string_view reference);

/// Sets its aliases.
base::Status add_aliases(sql::Session& session, VersionRow& row);

/// Of the models with names from `first` to `last`: by id of the model.
struct AliasRow {
  std::string name;
  std::uint32_t version = 0;
};
base::Result<std::multimap<std::int64_t, AliasRow>> aliases_between(sql::Session& session,
                                                                    const std::string& first,
                                                                    const std::string& last);

/// Points an alias at a version, as Models::move_alias.
base::Result<Alias> point_alias(Writer& writer, const VersionRow& target, const AliasMove& move);

/// For the audit: without what is long.
std::string brief_json(const VersionRow& row);

/// A draft, or an archived version, becomes a published one, in `row` too.
base::Status publish_in(Writer& writer, VersionRow& row);

/// Id of a model that is not removed. kNotFound.
base::Result<std::int64_t> model_id_in(sql::Session& session, const std::string& name);

/// kFailedPrecondition if a deployment has a reference to this model that does not resolve (any
/// more), or one to just this version (0: of none).
base::Status check_deployments_of(sql::Session& session, const std::string& model,
                                  std::uint32_t version);

}  // namespace conclave::catalog
