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

constexpr sql::Statement kFindDeployment{
    "find_deployment",
    "SELECT name, body, created_unix_ms, updated_unix_ms, revision FROM deployment"
    " WHERE name = $1"};
constexpr sql::Statement kListDeployments{
    "list_deployments",
    "SELECT name, body, created_unix_ms, updated_unix_ms, revision FROM deployment ORDER BY name"};
constexpr sql::Statement kPutDeployment{
    "put_deployment",
    "INSERT INTO deployment (name, body, created_unix_ms, updated_unix_ms, revision)"
    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET body = excluded.body,"
    " updated_unix_ms = excluded.updated_unix_ms, revision = excluded.revision"};
constexpr sql::Statement kDropDeployment{"drop_deployment",
                                         "DELETE FROM deployment WHERE name = $1"};
constexpr sql::Statement kCountDeployments{"count_deployments", "SELECT count(*) FROM deployment"};

std::string json_of(const Deployment& deployment) {
  return boost::json::serialize(to_json(deployment));
}

Result<Deployment> deployment_of(const sql::Row& row) {
  boost::json::error_code error;
  const boost::json::value body = boost::json::parse(row.text(1), error);
  const auto parsed = error || !body.is_object()
                          ? Result<Deployment>(fail(ErrorCode::kCorruptData, "no JSON"))
                          : deployment_from_json(body.get_object());
  if (!parsed) {
    return fail(ErrorCode::kCorruptData,
                "the deployment " + row.text(0) + " is damaged: " + parsed.error().message);
  }
  Deployment deployment = *parsed;
  deployment.name = row.text(0);
  deployment.created_unix_ms = row.integer(2);
  deployment.updated_unix_ms = row.integer(3);
  deployment.revision = row.large(4);
  return deployment;
}

Result<std::vector<Deployment>> all_in(sql::Session& session) {
  CONCLAVE_TRY(const sql::Rows rows, session.run(kListDeployments));
  std::vector<Deployment> deployments;
  for (const sql::Row& row : rows) {
    CONCLAVE_TRY(Deployment deployment, deployment_of(row));
    deployments.push_back(std::move(deployment));
  }
  return deployments;
}

std::vector<std::string> references_of(const Deployment& deployment) {
  std::vector<std::string> references;
  for (const Split& split : deployment.split) references.push_back(split.reference);
  if (!deployment.shadow.empty()) references.push_back(deployment.shadow);
  return references;
}

// What it serves is there, and published.
Status check_served(sql::Session& session, const std::string& reference) {
  CONCLAVE_TRY(const VersionRow row, resolve_in(session, reference));
  if (row.version.state == VersionState::kPublished) return {};
  return fail(ErrorCode::kFailedPrecondition, base::shown(reference) + " is " +
                                                  std::string(to_string(row.version.state)) +
                                                  ": deployments serve published versions");
}

auto no_deployment(const std::string& name) {
  return fail(ErrorCode::kNotFound, "there is no deployment " + base::shown(name));
}

}  // namespace

Status check_deployments_of(sql::Session& session, const std::string& model,
                            std::uint32_t version) {
  CONCLAVE_TRY(const auto deployments, all_in(session));
  for (const Deployment& deployment : deployments) {
    for (const std::string& text : references_of(deployment)) {
      CONCLAVE_TRY(const Reference reference, parse_reference(text));
      if (reference.name != model) continue;
      const Status served = check_served(session, text);
      const bool names_it = version != 0 && reference.version == version;
      if (!served && served.error().code == ErrorCode::kUnavailable) return served;
      if (served && !names_it) continue;
      return fail(ErrorCode::kFailedPrecondition,
                  "the deployment " + deployment.name + " serves " + text);
    }
  }
  return {};
}

Result<Deployment> SqlCatalog::put_deployment(const Deployment& wanted, const Change& with) {
  CONCLAVE_TRY_VOID(check_deployment(wanted));
  return change(with, [&](Writer& writer) -> Result<Deployment> {
    sql::Session& sql = writer.sql();
    for (const std::string& reference : references_of(wanted)) {
      CONCLAVE_TRY_VOID(check_served(sql, reference));
    }
    CONCLAVE_TRY(const sql::Rows rows, sql.run(kFindDeployment, wanted.name));
    Deployment before;
    if (!rows.empty()) {
      CONCLAVE_TRY(before, deployment_of(rows.front()));
    }
    CONCLAVE_TRY_VOID(writer.check_revision("deployment " + wanted.name, before.revision));
    Deployment after = wanted;
    after.created_unix_ms = rows.empty() ? writer.now_unix_ms() : before.created_unix_ms;
    after.updated_unix_ms = before.updated_unix_ms;
    after.revision = before.revision;
    if (!rows.empty() && after == before) return after;
    after.updated_unix_ms = writer.now_unix_ms();
    after.revision = writer.revision();
    CONCLAVE_TRY_VOID(sql.apply(kPutDeployment, after.name, json_of(after), after.created_unix_ms,
                                after.updated_unix_ms, after.revision));
    CONCLAVE_TRY(const sql::Rows count, sql.run(kCountDeployments));
    if (count.front().large(0) > kDeploymentsMax) {
      return fail(ErrorCode::kOverloaded,
                  "there are at most " + std::to_string(kDeploymentsMax) + " deployments");
    }
    CONCLAVE_TRY_VOID(writer.audit("deployment.put", after.name,
                                   rows.empty() ? "" : json_of(before), json_of(after)));
    return after;
  });
}

Result<Deployment> SqlCatalog::find_deployment(const std::string& name) {
  CONCLAVE_TRY_VOID(check_name("deployment name", name));
  return read([&name](sql::Session& session) -> Result<Deployment> {
    CONCLAVE_TRY(const sql::Rows rows, session.run(kFindDeployment, name));
    if (rows.empty()) return no_deployment(name);
    return deployment_of(rows.front());
  });
}

Result<std::vector<Deployment>> SqlCatalog::list_deployments() { return read(all_in); }

Status SqlCatalog::remove_deployment(const std::string& name, const Change& with) {
  CONCLAVE_TRY_VOID(check_name("deployment name", name));
  return change(with, [&](Writer& writer) -> Status {
    CONCLAVE_TRY(const sql::Rows rows, writer.sql().run(kFindDeployment, name));
    if (rows.empty()) return no_deployment(name);
    CONCLAVE_TRY(const Deployment before, deployment_of(rows.front()));
    CONCLAVE_TRY_VOID(writer.check_revision("deployment " + name, before.revision));
    CONCLAVE_TRY_VOID(writer.sql().apply(kDropDeployment, name));
    CONCLAVE_TRY_VOID(writer.audit("deployment.remove", name, json_of(before), ""));
    return {};
  });
}

}  // namespace conclave::catalog
