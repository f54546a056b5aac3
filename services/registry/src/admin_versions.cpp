// The part of the administration that is about versions: registering, verifying, their states.
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "admin_api.hpp"
#include "admin_pages.hpp"
#include "conclave/catalog/reference.hpp"

namespace conclave::registry {

using admin::json_reply;
using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

Result<catalog::NewVersion> new_version(const json::object& body) {
  catalog::NewVersion version;
  CONCLAVE_TRY(version.uri, admin::required(admin::text_member(body, "uri"), "uri"));
  CONCLAVE_TRY(const auto draft, admin::bool_member(body, "draft"));
  version.draft = draft.value_or(false);
  CONCLAVE_TRY(const auto description, admin::text_member(body, "description"));
  CONCLAVE_TRY(const auto licence, admin::text_member(body, "licence"));
  CONCLAVE_TRY(const auto parent, admin::text_member(body, "parent"));
  version.notes.description = description.value_or("");
  version.notes.licence = licence.value_or("");
  version.notes.parent = parent.value_or("");
  version.notes.source_uri = version.uri;
  if (const json::value* metadata = body.if_contains("metadata")) {
    if (!metadata->is_object()) {
      return fail(ErrorCode::kInvalidArgument, "metadata must be an object");
    }
    version.notes.metadata = json::serialize(*metadata);
  }
  const json::value* aliases = body.if_contains("aliases");
  if (aliases == nullptr) return version;
  if (!aliases->is_array() || aliases->get_array().size() > catalog::kAliasesMax) {
    return fail(ErrorCode::kInvalidArgument, "aliases must be an array of at most " +
                                                 std::to_string(catalog::kAliasesMax) + " names");
  }
  for (const json::value& alias : aliases->get_array()) {
    if (!alias.is_string()) return fail(ErrorCode::kInvalidArgument, "aliases must be names");
    version.aliases.emplace_back(alias.get_string());
    const auto named = catalog::check_name("alias", version.aliases.back());
    if (!named) return fail(named.error().within("aliases"));
  }
  return version;
}

// Experts that are named one by one: a file that is another one altogether need not be listed.
constexpr std::size_t kBadListed = 10'000;
constexpr std::size_t kBadAudited = 1'000;

// What of a file is not what was recorded.
json::object compare(const wire::ModelRecord& record, const wire::ModelDigests& recorded,
                     const catalog::ModelScan& found) {
  json::array bad;
  std::size_t bad_count = 0;
  const bool is_shape = recorded.layers == found.digests.layers &&
                        recorded.experts == found.digests.experts &&
                        recorded.expert.size() == found.digests.expert.size();
  for (std::size_t i = 0; is_shape && i < recorded.expert.size(); ++i) {
    if (recorded.expert[i] == found.digests.expert[i]) continue;
    if (++bad_count > kBadListed) continue;
    bad.push_back({{"layer", i / recorded.experts}, {"expert", i % recorded.experts}});
  }
  const bool file_ok = record.model.sha256 == found.record.model.sha256;
  const bool backbone_ok = is_shape && recorded.backbone == found.digests.backbone;
  return {{"ok", file_ok},
          {"model", record.model.name},
          {"version", record.model.version},
          {"shape_ok", is_shape},
          {"backbone_ok", backbone_ok},
          {"bad_count", bad_count},
          {"bad_experts", std::move(bad)}};
}

// The same, short enough for an audit record.
json::object for_audit(json::object found) {
  json::array& bad = found.at("bad_experts").as_array();
  if (bad.size() > kBadAudited) bad.resize(kBadAudited);
  return found;
}

}  // namespace

void AdminApi::add_versions() {
  const std::string one = "/admin/v1/models/{name}/versions/{version}";
  routes_.add({"GET",
               "/admin/v1/models/{name}/versions",
               "Lists a model's versions, the newest first.",
               {{"before", "`next` of the page before"}, {"limit", "1 to 1000"}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const std::uint32_t limit, call.limit());
                 CONCLAVE_TRY(const std::uint64_t before,
                              call.argument("before", 0, 0, UINT32_MAX));
                 CONCLAVE_TRY(const catalog::VersionPage found,
                              parts_.catalog.list_versions(
                                  call.text("name"), static_cast<std::uint32_t>(before), limit));
                 json::value next;
                 if (found.more) next = found.versions.back().record.model.version;
                 return page(array_of(found.versions), std::move(next));
               }});
  routes_.add({"POST",
               "/admin/v1/models/{name}/versions",
               "Reads a file and records it; answers with an operation.",
               {{"dry_run", "true: read and check it, and record nothing"}},
               {{"uri", "where the file is"},
                {"draft", "true: publish it later"},
                {"aliases", "names to point at it"},
                {"description", "text"},
                {"licence", "text; by default what the file says"},
                {"parent", "version that it was made of"},
                {"metadata", "free object"}},
               [this](const Call& call) { return create_version(call); }});
  routes_.add({"GET", one, "Shows a version.", {}, {}, [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const std::uint32_t number, call.number("version"));
                 CONCLAVE_TRY(const catalog::Version version,
                              parts_.catalog.find_version(call.text("name"), number));
                 return json_reply(to_json(version), version.revision);
               }});
  routes_.add({"DELETE",
               one,
               "Removes a draft or an archived version.",
               {{"dry_run", "true: only check"}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const std::uint32_t number, call.number("version"));
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY_VOID(
                     parts_.catalog.remove_version(call.text("name"), number, change));
                 return admin::empty_reply();
               }});
  using Turn = Result<catalog::Version> (catalog::Models::*)(const std::string&, std::uint32_t,
                                                             const catalog::Change&);
  const auto add_turn = [&](const char* verb, const char* summary, Turn turn) {
    routes_.add({"POST",
                 one + verb,
                 summary,
                 {{"dry_run", "true: only check"}},
                 {},
                 [this, turn](const Call& call) -> Reply {
                   CONCLAVE_TRY(const std::uint32_t number, call.number("version"));
                   CONCLAVE_TRY_VOID(call.body({}));
                   CONCLAVE_TRY(const catalog::Change change, this->change(call));
                   CONCLAVE_TRY(const catalog::Version version,
                                (parts_.catalog.*turn)(call.text("name"), number, change));
                   return json_reply(to_json(version), version.revision);
                 }});
  };
  add_turn(":publish", "Publishes a draft, or an archived version again.",
           &catalog::Models::publish);
  add_turn(":archive", "Archives a version that nothing points at.", &catalog::Models::archive);
  routes_.add({"POST",
               one + ":verify",
               "Reads the file again and compares every sum; answers with an operation.",
               {},
               {},
               [this](const Call& call) { return verify_version(call); }});
}

AdminApi::Reply AdminApi::create_version(const Call& call) const {
  CONCLAVE_TRY(const json::object body, call.body({"uri", "draft", "aliases", "description",
                                                   "licence", "parent", "metadata"}));
  CONCLAVE_TRY(catalog::NewVersion version, new_version(body));
  if (version.draft && !version.aliases.empty()) {
    return fail(ErrorCode::kInvalidArgument, "aliases: nothing may point at a draft");
  }
  CONCLAVE_TRY_VOID(catalog::check_name("model name", call.text("name")));
  CONCLAVE_TRY(const artifacts::Location where, artifacts::Location::parse(version.uri));
  version.uri = where.text();  // workers and routers open it
  CONCLAVE_TRY(const catalog::Change change, this->change(call));
  const std::string asked = (change.dry_run ? "dry " : "") + json::serialize(body);
  return begin("register", call.text("name"), asked, [&](const std::string& id) {
    Registrar::Job job{.where = where};
    job.name = call.text("name");
    job.progress = [this, id](unsigned percent) { parts_.operations.progress(id, percent); };
    job.done = [this, id, version, change](Result<catalog::ModelScan> scan) {
      const auto add = [&]() -> Result<json::value> {
        CONCLAVE_TRY(const catalog::ModelScan read, std::move(scan));
        CONCLAVE_TRY(const catalog::Version added,
                     parts_.catalog.add_version(read, version, change));
        return json::value(to_json(added));
      };
      parts_.operations.end(id, add());
    };
    return parts_.registrar.scan(std::move(job));
  });
}

AdminApi::Reply AdminApi::verify_version(const Call& call) const {
  CONCLAVE_TRY(const std::uint32_t number, call.number("version"));
  CONCLAVE_TRY_VOID(call.body({}));
  CONCLAVE_TRY(const catalog::Version version,
               parts_.catalog.find_version(call.text("name"), number));
  CONCLAVE_TRY(const wire::ModelDigests recorded,
               parts_.catalog.digests({call.text("name"), number}));
  CONCLAVE_TRY(const artifacts::Location where,
               artifacts::Location::parse(version.record.model.uri));
  CONCLAVE_TRY(const catalog::Change change, this->change(call));
  const std::string reference = catalog::format_reference(call.text("name"), number);
  return begin("verify", reference, "", [&](const std::string& id) {
    Registrar::Job job{.where = where};
    job.name = call.text("name");
    job.fresh = true;
    job.progress = [this, id](unsigned percent) { parts_.operations.progress(id, percent); };
    job.done = [this, id, record = version.record, recorded, change,
                reference](Result<catalog::ModelScan> scan) {
      const auto judge = [&]() -> Result<json::value> {
        CONCLAVE_TRY(const catalog::ModelScan read, std::move(scan));
        json::object found = compare(record, recorded, read);
        if (!found.at("ok").as_bool()) {
          CONCLAVE_TRY_VOID(parts_.catalog.record_event(
              {"version.damaged", reference, json::serialize(for_audit(found))}, change));
        }
        return json::value(std::move(found));
      };
      parts_.operations.end(id, judge());
    };
    return parts_.registrar.scan(std::move(job));
  });
}

}  // namespace conclave::registry
