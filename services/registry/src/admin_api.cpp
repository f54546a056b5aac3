#include "admin_api.hpp"

#include <boost/json/array.hpp>
#include <utility>

#include "admin_pages.hpp"
#include "conclave/catalog/reference.hpp"

namespace conclave::registry {

using admin::json_reply;
using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

// Somebody else was faster: 412 where the condition was the client's.
wire::AdminReply refusal(const base::Error& error, std::string_view param) {
  if (catalog::is_conflict(error)) return admin::error_reply(412, "conflict", error.message);
  return admin::error_reply(error, param);
}

constexpr auto kDryRun = "true: check and answer, and do nothing";

Result<catalog::ModelEdit> model_edit(const json::object& body) {
  catalog::ModelEdit edit;
  CONCLAVE_TRY(edit.description, admin::text_member(body, "description"));
  const json::value* tags = body.if_contains("tags");
  if (tags == nullptr) return edit;
  if (!tags->is_object()) return fail(ErrorCode::kInvalidArgument, "tags must be an object");
  edit.tags.emplace();
  for (const auto& tag : tags->get_object()) {
    if (!tag.value().is_string()) {
      return fail(ErrorCode::kInvalidArgument, "tags." + std::string(tag.key()) + " must be text");
    }
    (*edit.tags)[std::string(tag.key())] = std::string(tag.value().get_string());
  }
  return edit;
}

}  // namespace

AdminApi::AdminApi(AdminParts parts) : parts_(std::move(parts)), routes_(refusal) {
  add_models();
  add_versions();
  add_aliases();
  add_deployments();
  add_access();
  add_usage();
  add_audit();
  add_operations();
  add_document();
}

std::int64_t AdminApi::now_unix_ms() const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             parts_.wall_clock().time_since_epoch())
      .count();
}

Result<catalog::Change> AdminApi::change(const Call& call) const {
  catalog::Change change;
  change.actor = "key:" + call.request().subject.key_id;
  change.request_id = call.request().request_id;
  change.now_unix_ms = now_unix_ms();
  CONCLAVE_TRY(change.if_revision, call.if_match());
  CONCLAVE_TRY(change.dry_run, call.dry_run());
  return change;
}

AdminApi::Reply AdminApi::begin(
    std::string what, std::string subject, std::string request,
    const std::function<base::Status(const std::string& id)>& start) const {
  CONCLAVE_TRY(const Operations::Begun begun,
               parts_.operations.begin(std::move(what), std::move(subject), std::move(request)));
  const std::string& id = begun.operation.id;
  if (begun.is_new) {
    if (const base::Status started = start(id); !started) {
      parts_.operations.end(id, fail(started.error()));
      return fail(started.error());
    }
  }
  wire::AdminReply reply = json_reply(to_json(begun.operation), 0, 202);
  reply.location = "/admin/v1/operations/" + id;
  return reply;
}

void AdminApi::add_models() {
  routes_.add({"GET",
               "/admin/v1/models",
               "Lists models by name.",
               {{"after", "`next` of the page before"}, {"limit", "1 to 1000"}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const std::uint32_t limit, call.limit());
                 CONCLAVE_TRY(const catalog::ModelPage models,
                              parts_.catalog.list_models(call.argument("after"), limit));
                 return page(array_of(models.models),
                             models.more ? json::value(models.models.back().name) : json::value());
               }});
  routes_.add({"POST",
               "/admin/v1/models",
               "Makes a model that has no versions yet.",
               {{"dry_run", kDryRun}},
               {{"name", "its name"}, {"description", "text"}, {"tags", "object of texts"}},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const json::object body, call.body({"name", "description", "tags"}));
                 CONCLAVE_TRY(const std::string name,
                              admin::required(admin::text_member(body, "name"), "name"));
                 CONCLAVE_TRY(const catalog::ModelEdit texts, model_edit(body));
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY(const catalog::Model model,
                              parts_.catalog.create_model(name, texts, change));
                 return json_reply(to_json(model), model.revision, 201);
               }});
  routes_.add({"GET",
               "/admin/v1/models/{name}",
               "Shows a model.",
               {},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Model model,
                              parts_.catalog.find_model(call.text("name")));
                 return json_reply(to_json(model), model.revision);
               }});
  routes_.add({"PATCH",
               "/admin/v1/models/{name}",
               "Changes a model's description or tags.",
               {{"dry_run", kDryRun}},
               {{"description", "text"}, {"tags", "object of texts, in place of those before"}},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const json::object body, call.body({"description", "tags"}));
                 CONCLAVE_TRY(const catalog::ModelEdit edit, model_edit(body));
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY(const catalog::Model model,
                              parts_.catalog.edit_model(call.text("name"), edit, change));
                 return json_reply(to_json(model), model.revision);
               }});
  routes_.add({"DELETE",
               "/admin/v1/models/{name}",
               "Removes a model with its drafts and archived versions.",
               {{"dry_run", kDryRun}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY_VOID(parts_.catalog.remove_model(call.text("name"), change));
                 return admin::empty_reply();
               }});
}

void AdminApi::add_aliases() {
  routes_.add({"GET",
               "/admin/v1/models/{name}/aliases",
               "Lists a model's aliases.",
               {},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY_VOID(parts_.catalog.find_model(call.text("name")));
                 CONCLAVE_TRY(const auto aliases, parts_.catalog.list_aliases(call.text("name")));
                 return page(array_of(aliases), nullptr);
               }});
  routes_.add({"GET",
               "/admin/v1/models/{name}/aliases/{alias}",
               "Shows an alias.",
               {},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Alias alias,
                              parts_.catalog.find_alias(call.text("name"), call.text("alias")));
                 return json_reply(to_json(alias), alias.revision);
               }});
  routes_.add(
      {"PUT",
       "/admin/v1/models/{name}/aliases/{alias}",
       "Moves or makes an alias.",
       {{"dry_run", kDryRun}},
       {{"version", "number it shall point at"},
        {"if_version", "number it must point at now; 0: it must not exist"}},
       [this](const Call& call) -> Reply {
         CONCLAVE_TRY(const json::object body, call.body({"version", "if_version"}));
         CONCLAVE_TRY(const auto version, admin::number_member(body, "version", UINT32_MAX));
         if (!version) return fail(ErrorCode::kInvalidArgument, "version is missing");
         CONCLAVE_TRY(const auto if_version, admin::number_member(body, "if_version", UINT32_MAX));
         catalog::AliasMove move{call.text("name"), call.text("alias"),
                                 static_cast<std::uint32_t>(*version), std::nullopt};
         if (if_version) move.if_version = static_cast<std::uint32_t>(*if_version);
         CONCLAVE_TRY(const catalog::Change change, this->change(call));
         CONCLAVE_TRY(const catalog::Alias alias, parts_.catalog.move_alias(move, change));
         return json_reply(to_json(alias), alias.revision);
       }});
  routes_.add({"DELETE",
               "/admin/v1/models/{name}/aliases/{alias}",
               "Removes an alias.",
               {{"dry_run", kDryRun}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY_VOID(
                     parts_.catalog.remove_alias(call.text("name"), call.text("alias"), change));
                 return admin::empty_reply();
               }});
}

void AdminApi::add_deployments() {
  routes_.add(
      {"GET", "/admin/v1/deployments", "Lists deployments.", {}, {}, [this](const Call&) -> Reply {
         CONCLAVE_TRY(const auto deployments, parts_.catalog.list_deployments());
         return page(array_of(deployments), nullptr);
       }});
  routes_.add({"GET",
               "/admin/v1/deployments/{name}",
               "Shows a deployment.",
               {},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Deployment deployment,
                              parts_.catalog.find_deployment(call.text("name")));
                 return json_reply(to_json(deployment), deployment.revision);
               }});
  routes_.add({"PUT",
               "/admin/v1/deployments/{name}",
               "Makes or replaces a deployment.",
               {{"dry_run", kDryRun}},
               {{"split", "versions and their weights"},
                {"sticky", "none, user or session"},
                {"shadow", "reference whose answers nobody sees"},
                {"shadow_percent", "0 to 100"},
                {"pins", "experts that only a worker group may host"},
                {"replica_floor", "copies of each expert; 0: the scheduler's setting"},
                {"policy", "without any replica: wait, next-best or fail"}},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const json::object body, call.any_body());
                 CONCLAVE_TRY(catalog::Deployment wanted, catalog::deployment_from_json(body));
                 wanted.name = call.text("name");
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY(const catalog::Deployment made,
                              parts_.catalog.put_deployment(wanted, change));
                 return json_reply(to_json(made), made.revision);
               }});
  routes_.add({"DELETE",
               "/admin/v1/deployments/{name}",
               "Removes a deployment.",
               {{"dry_run", kDryRun}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY_VOID(parts_.catalog.remove_deployment(call.text("name"), change));
                 return admin::empty_reply();
               }});
}

void AdminApi::add_operations() {
  routes_.add({"GET",
               "/admin/v1/operations",
               "Lists work that takes long, of all registries, the newest first.",
               {{"limit", "1 to 1000"}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const std::uint32_t limit, call.limit());
                 CONCLAVE_TRY(json::array operations, parts_.operations.list(limit));
                 return page(std::move(operations), nullptr);
               }});
  routes_.add({"GET",
               "/admin/v1/operations/{id}",
               "Shows work that takes long.",
               {},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(json::object operation, parts_.operations.find(call.text("id")));
                 return json_reply(std::move(operation));
               }});
}

void AdminApi::add_document() {
  routes_.add(
      {"GET", "/admin/v1/openapi.json", "This document.", {}, {}, [this](const Call&) -> Reply {
         return json_reply(admin::openapi(routes_.all(), parts_.version));
       }});
}

}  // namespace conclave::registry
