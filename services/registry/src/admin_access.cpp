// The part of the administration that is about people: tenants, keys, quotas, usage and the audit.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "admin_api.hpp"
#include "admin_pages.hpp"
#include "conclave/catalog/access.hpp"

namespace conclave::registry {

using admin::json_reply;
using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

// What a question about usage covers if it does not say: a month.
constexpr std::int32_t kUsageDays = 30;

Result<std::int32_t> day_argument(std::string_view name, const std::string& text) {
  auto day = catalog::parse_day(text);
  if (!day) return fail(day.error().within(name));
  return day;
}

Result<catalog::NewApiKey> new_key(const json::object& body) {
  catalog::NewApiKey key;
  CONCLAVE_TRY(key.tenant, admin::required(admin::text_member(body, "tenant"), "tenant"));
  CONCLAVE_TRY(const auto name, admin::text_member(body, "name"));
  key.name = name.value_or("");
  CONCLAVE_TRY(const auto role, admin::text_member(body, "role"));
  const auto known = catalog::role_of(role.value_or("inference"));
  if (!known) return fail(ErrorCode::kInvalidArgument, "role must be inference, read or admin");
  key.role = *known;
  CONCLAVE_TRY(const auto expires, admin::number_member(body, "expires_unix_ms", INT64_MAX));
  key.expires_unix_ms = static_cast<std::int64_t>(expires.value_or(0));
  const json::value* models = body.if_contains("models");
  if (models == nullptr) return key;
  if (!models->is_array() || models->get_array().size() > catalog::kKeyModelsMax) {
    return fail(ErrorCode::kInvalidArgument, "models must be an array of at most " +
                                                 std::to_string(catalog::kKeyModelsMax) + " names");
  }
  for (const json::value& model : models->get_array()) {
    if (!model.is_string()) return fail(ErrorCode::kInvalidArgument, "models must be names");
    key.models.emplace_back(model.get_string());
  }
  return key;
}

}  // namespace

void AdminApi::add_access() {
  routes_.add({"GET",
               "/admin/v1/tenants",
               "Lists tenants.",
               {{"after", "`next` of the page before"}, {"limit", "1 to 1000"}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const std::uint32_t limit, call.limit());
                 CONCLAVE_TRY(const auto tenants,
                              parts_.catalog.list_tenants(call.argument("after"), limit));
                 json::value next;
                 if (tenants.size() == limit) next = tenants.back().name;
                 return page(array_of(tenants), std::move(next));
               }});
  routes_.add({"POST",
               "/admin/v1/tenants",
               "Makes a tenant.",
               {{"dry_run", "true: only check"}},
               {{"name", "its name"}, {"description", "text"}},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const json::object body, call.body({"name", "description"}));
                 CONCLAVE_TRY(const std::string name,
                              admin::required(admin::text_member(body, "name"), "name"));
                 CONCLAVE_TRY(const auto text, admin::text_member(body, "description"));
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY(const catalog::Tenant tenant,
                              parts_.catalog.create_tenant(name, text.value_or(""), change));
                 return json_reply(to_json(tenant), tenant.revision, 201);
               }});
  routes_.add({"GET",
               "/admin/v1/keys",
               "Lists API keys, without their secrets.",
               {{"tenant", "of this one only"},
                {"after", "`next` of the page before"},
                {"limit", "1 to 1000"}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const std::uint32_t limit, call.limit());
                 CONCLAVE_TRY(const auto keys,
                              parts_.catalog.list_keys(call.argument("tenant"),
                                                       call.argument("after"), limit));
                 json::value next;
                 if (keys.size() == limit) next = keys.back().id;
                 return page(array_of(keys), std::move(next));
               }});
  routes_.add({"POST",
               "/admin/v1/keys",
               "Makes an API key; its secret is in this answer only.",
               {{"dry_run", "true: only check"}},
               {{"tenant", "whose it is"},
                {"name", "for people"},
                {"role", "inference, read or admin"},
                {"models", "names that it may ask; none: all"},
                {"expires_unix_ms", "0: never"}},
               [this](const Call& call) { return create_key(call); }});
  routes_.add({"DELETE",
               "/admin/v1/keys/{id}",
               "Revokes an API key for good.",
               {{"dry_run", "true: only check"}},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY(const catalog::ApiKey key,
                              parts_.catalog.revoke_key(call.text("id"), change));
                 return json_reply(to_json(key), key.revision);
               }});
  routes_.add({"GET",
               "/admin/v1/quotas/{tenant}",
               "Shows a tenant's quota.",
               {},
               {},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const catalog::Quota quota,
                              parts_.catalog.find_quota(call.text("tenant")));
                 return json_reply(to_json(quota), quota.revision);
               }});
  routes_.add({"PUT",
               "/admin/v1/quotas/{tenant}",
               "Sets a tenant's quota; 0: no limit.",
               {{"dry_run", "true: only check"}},
               {{"requests_per_minute", ""},
                {"tokens_per_minute", ""},
                {"tokens_per_day", ""},
                {"tokens_per_month", ""},
                {"concurrent_requests", ""}},
               [this](const Call& call) -> Reply {
                 CONCLAVE_TRY(const json::object body, call.any_body());
                 CONCLAVE_TRY(catalog::Quota wanted, catalog::quota_from_json(body));
                 wanted.tenant = call.text("tenant");
                 CONCLAVE_TRY(const catalog::Change change, this->change(call));
                 CONCLAVE_TRY(const catalog::Quota quota, parts_.catalog.put_quota(wanted, change));
                 return json_reply(to_json(quota), quota.revision);
               }});
}

AdminApi::Reply AdminApi::create_key(const Call& call) const {
  CONCLAVE_TRY(const json::object body,
               call.body({"tenant", "name", "role", "models", "expires_unix_ms"}));
  CONCLAVE_TRY(const catalog::NewApiKey wanted, new_key(body));
  CONCLAVE_TRY(const catalog::Change change, this->change(call));
  const std::string secret = catalog::make_secret();
  CONCLAVE_TRY(const catalog::ApiKey key, parts_.catalog.create_key(wanted, secret, change));
  json::object shown = to_json(key);
  if (!change.dry_run) shown["secret"] = secret;
  return json_reply(shown, key.revision, 201);
}

void AdminApi::add_usage() {
  routes_.add({"GET",
               "/admin/v1/usage",
               "Sums what was used.",
               {{"tenant", ""},
                {"key", ""},
                {"model", ""},
                {"from", "day, 2025-06-15; by default 30 days before `to`"},
                {"to", "day, included; by default today"},
                {"by", "day, model, key, tenant or total"}},
               {},
               [this](const Call& call) { return usage(call); }});
}

AdminApi::Reply AdminApi::usage(const Call& call) const {
  catalog::UsageQuery query;
  query.tenant = call.argument("tenant");
  query.key_id = call.argument("key");
  query.model = call.argument("model");
  query.last_day = catalog::day_of(now_unix_ms());
  if (const std::string to = call.argument("to"); !to.empty()) {
    CONCLAVE_TRY(query.last_day, day_argument("to", to));
  }
  query.first_day = query.last_day - kUsageDays + 1;
  if (const std::string from = call.argument("from"); !from.empty()) {
    CONCLAVE_TRY(query.first_day, day_argument("from", from));
  }
  const std::string by = call.argument("by");
  const auto known = catalog::usage_by_of(by.empty() ? "day" : by);
  if (!known) {
    return fail(ErrorCode::kInvalidArgument, "by must be day, model, key, tenant or total");
  }
  query.by = *known;
  CONCLAVE_TRY(const auto sums, parts_.catalog.usage(query));
  return page(array_of(sums), nullptr);
}

void AdminApi::add_audit() {
  routes_.add({"GET",
               "/admin/v1/audit",
               "Reads who changed what, the oldest first.",
               {{"after", "`next` of the page before"},
                {"limit", "1 to 1000"},
                {"actor", ""},
                {"action", "version.publish, or version.*"},
                {"subject", ""},
                {"format", "json, or jsonl: a record a line"}},
               {},
               [this](const Call& call) { return audit(call); }});
  routes_.add({"POST",
               "/admin/v1/audit:verify",
               "Walks the chain of all records; answers with an operation.",
               {},
               {},
               [this](const Call& call) { return verify_audit(call); },
               wire::AccessRole::kRead});
}

AdminApi::Reply AdminApi::verify_audit(const Call& call) const {
  CONCLAVE_TRY_VOID(call.body({}));
  return begin("verify", "audit", "", [this](const std::string& id) {
    return parts_.jobs.run([this, id](const std::function<bool()>& go_on) {
      const auto walk = [&]() -> Result<json::value> {
        CONCLAVE_TRY(const std::uint64_t records, parts_.catalog.revision());
        const auto progress = [&](std::uint64_t read) {
          const std::uint64_t all = std::max({records, read, std::uint64_t{1}});
          parts_.operations.progress(id, static_cast<unsigned>(read * 100 / all));
          return go_on();
        };
        CONCLAVE_TRY(const catalog::AuditCheck check, parts_.catalog.verify_audit(progress));
        return json::value{{"ok", check.first_bad == 0},
                           {"records", check.records},
                           {"first_bad", check.first_bad},
                           {"problem", check.problem}};
      };
      parts_.operations.end(id, walk());
    });
  });
}

AdminApi::Reply AdminApi::audit(const Call& call) const {
  catalog::AuditQuery query;
  CONCLAVE_TRY(query.after, call.argument("after", 0, 0, INT64_MAX));
  CONCLAVE_TRY(query.limit, call.limit());
  query.actor = call.argument("actor");
  query.action = call.argument("action");
  query.subject = call.argument("subject");
  const std::string format = call.argument("format");
  if (!format.empty() && format != "json" && format != "jsonl") {
    return fail(ErrorCode::kInvalidArgument, "format must be json or jsonl");
  }
  CONCLAVE_TRY(const catalog::AuditPage found, parts_.catalog.audit(query));
  if (format == "jsonl") {
    std::string lines;
    for (const auto& record : found.records) lines += json::serialize(to_json(record)) + "\n";
    return admin::lines_reply(std::move(lines));
  }
  json::value next;
  if (found.more) next = found.records.back().sequence;
  return page(array_of(found.records), std::move(next));
}

}  // namespace conclave::registry
