// `conclave models alias|deploy|split`: what of the registry's models is served, under which names.
#include <iostream>
#include <memory>
#include <optional>
#include <utility>

#include "admin_text.hpp"
#include "conclave/config/bind.hpp"
#include "models.hpp"

namespace conclave::cli {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
namespace json = boost::json;

const std::vector<Column> kDeploymentRows{{"name", "/name"},
                                          {"split", "/split_text"},
                                          {"sticky", "/sticky"},
                                          {"shadow", "/shadow"},
                                          {"shadow percent", "/shadow_percent"},
                                          {"pins", "/pins_text"},
                                          {"replica floor", "/replica_floor"},
                                          {"policy", "/policy"}};

// ---- alias

struct AliasOptions : AdminOptions {
  std::string model;
  std::string alias;
  std::uint32_t version = 0;
  std::optional<std::uint32_t> expected;
  bool remove = false;
};

// The ETag of the alias if it points where the caller thinks: nobody can move it in between.
Result<std::string> etag_of(const AliasOptions& options, const AdminClient& client,
                            const std::string& path) {
  CONCLAVE_TRY(const AdminAnswer now, client.get(path));
  const std::string version = cell(now.body, "/version");
  if (version == std::to_string(*options.expected)) return now.etag;
  return fail(ErrorCode::kFailedPrecondition,
              options.model + "@" + options.alias + " points at version " + version);
}

Status alias(const AliasOptions& options, const AdminClient& client) {
  const std::string path = admin_path({"models", options.model, "aliases", options.alias});
  if (options.version == 0 && !options.remove) {
    CONCLAVE_TRY(const AdminAnswer alias, client.get(path));
    print_one(alias, {{"model", "/model"}, {"alias", "/name"}, {"version", "/version"}},
              options.format);
    return {};
  }
  AdminCall call{.method = options.remove ? "DELETE" : "PUT",
                 .path = path,
                 .query = options.changing(),
                 .body = {},
                 .if_match = ""};
  if (!options.remove) {
    json::object move{{"version", options.version}};
    if (options.expected) move["if_version"] = *options.expected;
    call.body = std::move(move);
  } else if (options.expected) {
    CONCLAVE_TRY(call.if_match, etag_of(options, client, path));
  }
  CONCLAVE_TRY(const AdminAnswer answer, client.call(call));
  if (options.format == OutputFormat::kJson) {
    print_json(options.remove ? json::value(json::object{{"removed", options.alias}})
                              : answer.body);
    return {};
  }
  std::cout << options.model << "@" << options.alias
            << (options.remove
                    ? std::string(options.dry_run ? " would be" : " is") + " removed"
                    : (options.dry_run ? " would point at version " : " points at version ") +
                          std::to_string(options.version))
            << "\n";
  return {};
}

// ---- deploy and split

struct DeployOptions : AdminOptions {
  std::string name;
  std::vector<std::string> split;
  std::string sticky;
  std::string shadow;
  std::optional<std::uint32_t> shadow_percent;
  std::vector<std::string> pins;
  std::optional<std::uint32_t> replica_floor;
  std::string policy;
  bool remove = false;
};

Status put_deployment(const DeployOptions& options, const AdminClient& client, json::object body,
                      const std::string& etag) {
  CONCLAVE_TRY(const AdminAnswer answer,
               client.call({.method = "PUT",
                            .path = admin_path({"deployments", options.name}),
                            .query = options.changing(),
                            .body = std::move(body),
                            .if_match = etag}));
  print_one(answer, kDeploymentRows, options.format);
  return {};
}

Status deploy(const DeployOptions& options, const AdminClient& client) {
  if (options.name.empty()) {
    bool stale = false;
    CONCLAVE_TRY(json::array all, client.list(admin_path({"deployments"}), {}, kListMax, &stale));
    print_all(std::move(all), kDeploymentRows, options.format, stale);
    return {};
  }
  const std::string path = admin_path({"deployments", options.name});
  if (options.remove) {
    CONCLAVE_TRY_VOID(client.call({.method = "DELETE",
                                   .path = path,
                                   .query = options.changing(),
                                   .body = {},
                                   .if_match = ""}));
    if (options.format == OutputFormat::kJson) {
      print_json(json::object{{"removed", options.name}, {"dry_run", options.dry_run}});
    } else {
      std::cout << options.name << (options.dry_run ? " would be" : " is") << " removed\n";
    }
    return {};
  }
  if (options.split.empty()) {
    CONCLAVE_TRY(const AdminAnswer found, client.get(path));
    print_one(found, kDeploymentRows, options.format);
    return {};
  }
  json::object body;
  CONCLAVE_TRY(body["split"], split_of(options.split));
  CONCLAVE_TRY(body["pins"], pins_of(options.pins));
  if (!options.sticky.empty()) body["sticky"] = options.sticky;
  if (!options.shadow.empty()) body["shadow"] = options.shadow;
  if (options.shadow_percent) body["shadow_percent"] = *options.shadow_percent;
  if (options.replica_floor) body["replica_floor"] = *options.replica_floor;
  if (!options.policy.empty()) body["policy"] = options.policy;
  return put_deployment(options, client, std::move(body), "");
}

// The rest of the deployment stays; who changes it meanwhile is told from us by the ETag.
Status split(const DeployOptions& options, const AdminClient& client) {
  CONCLAVE_TRY(AdminAnswer found, client.get(admin_path({"deployments", options.name})));
  if (!found.body.is_object()) return fail(ErrorCode::kCorruptData, "the answer is no deployment");
  CONCLAVE_TRY(found.body.get_object()["split"], split_of(options.split));
  return put_deployment(options, client, std::move(found.body.get_object()), found.etag);
}

}  // namespace

void add_models_alias(CLI::App& models, Action& action) {
  auto options = std::make_shared<AliasOptions>();
  CLI::App* command =
      models.add_subcommand("alias", "Show an alias, or move it to another version");
  command->add_option("model", options->model, "The model's name")->required();
  command->add_option("alias", options->alias, "As production or canary")->required();
  command->add_option("version", options->version, "The version it is to point at")
      ->check(config::within(1u, ~0u));
  command->add_option("--expect", options->expected,
                      "Only if it points at this version now (0: at none)");
  command->add_flag("--remove", options->remove, "Remove it");
  add_admin_options(*command, *options, true);
  on_admin(*command, action, *options,
           [options](const AdminClient& client) { return alias(*options, client); });
}

void add_models_deploy(CLI::App& models, Action& action) {
  auto options = std::make_shared<DeployOptions>();
  CLI::App* command = models.add_subcommand(
      "deploy", "Serve versions under a public name; without versions: show what is served");
  command->add_option("name", options->name, "As clients write it in `model`");
  command->add_option("split", options->split, "REFERENCE[=WEIGHT], one or more");
  command->add_option("--sticky", options->sticky, "Who stays with one version")
      ->check(CLI::IsMember({"none", "user", "session"}));
  command->add_option("--shadow", options->shadow, "A version that gets a copy of requests");
  command->add_option("--shadow-percent", options->shadow_percent, "Of the requests")
      ->check(config::within(0u, 100u));
  command->add_option("--pin", options->pins, "GROUP[/LAYERS[/EXPERTS]]; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--replica-floor", options->replica_floor, "Replicas of every expert")
      ->check(config::within(0u, 1024u));
  command->add_option("--policy", options->policy, "What happens without a replica")
      ->check(CLI::IsMember({"wait", "next-best", "fail"}));
  command->add_flag("--remove", options->remove, "Serve it no longer");
  add_admin_options(*command, *options, true);
  on_admin(*command, action, *options,
           [options](const AdminClient& client) { return deploy(*options, client); });
}

void add_models_split(CLI::App& models, Action& action) {
  auto options = std::make_shared<DeployOptions>();
  CLI::App* command =
      models.add_subcommand("split", "Share a deployment's traffic anew among versions");
  command->add_option("name", options->name, "Of the deployment")->required();
  command->add_option("split", options->split, "REFERENCE[=WEIGHT], one or more")->required();
  add_admin_options(*command, *options, true);
  on_admin(*command, action, *options,
           [options](const AdminClient& client) { return split(*options, client); });
}

}  // namespace conclave::cli
