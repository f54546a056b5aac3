// `conclave keys ..`: the CURVE keys by which services know each other, and the API keys by which
// the gateway knows its clients.
#include <chrono>
#include <iostream>
#include <memory>

#include "admin_text.hpp"
#include "commands.hpp"
#include "conclave/fabric/keys.hpp"
#include "models.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;
using base::Status;

const std::vector<Column> kKeyColumns{{"id", "/id"},
                                      {"tenant", "/tenant"},
                                      {"name", "/name"},
                                      {"begins", "/prefix"},
                                      {"role", "/role"},
                                      {"models", "/models"},
                                      {"created", "/created_text"},
                                      {"expires", "/expires_text"},
                                      {"revoked", "/revoked_text"}};

struct KeyOptions : AdminOptions {
  std::string id;
  std::string tenant;
  std::string name;
  std::string role = "inference";
  std::vector<std::string> models;
  std::string expires;
};

Status create(const KeyOptions& options, const AdminClient& client) {
  json::object body{{"tenant", options.tenant}, {"name", options.name}, {"role", options.role}};
  if (!options.models.empty()) {
    body["models"] = json::array(options.models.begin(), options.models.end());
  }
  if (!options.expires.empty()) {
    CONCLAVE_TRY(const std::int64_t from_now, duration_ms(options.expires));
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    body["expires_unix_ms"] =
        std::chrono::duration_cast<std::chrono::milliseconds>(now).count() + from_now;
  }
  CONCLAVE_TRY(const AdminAnswer key, client.call({.method = "POST",
                                                   .path = admin_path({"keys"}),
                                                   .query = options.changing(),
                                                   .body = std::move(body),
                                                   .if_match = ""}));
  print_one(key, {{"secret", "/secret"}, {"id", "/id"}, {"tenant", "/tenant"}, {"role", "/role"}},
            options.format);
  if (options.format == OutputFormat::kTable && !options.dry_run) {
    std::cerr << "conclave: the secret is shown this once and stored nowhere\n";
  }
  return {};
}

Status list(const KeyOptions& options, const AdminClient& client) {
  AdminCall::Query query = kPage;
  query.emplace_back("tenant", options.tenant);
  bool stale = false;
  CONCLAVE_TRY(json::array keys, client.list(admin_path({"keys"}), query, kListMax, &stale));
  print_all(std::move(keys), kKeyColumns, options.format, stale);
  return {};
}

Status revoke(const KeyOptions& options, const AdminClient& client) {
  CONCLAVE_TRY(const AdminAnswer key, client.call({.method = "DELETE",
                                                   .path = admin_path({"keys", options.id}),
                                                   .query = options.changing(),
                                                   .body = {},
                                                   .if_match = ""}));
  if (options.format == OutputFormat::kJson) {
    print_json(key.body.is_null() ? json::value(json::object{{"revoked", options.id}}) : key.body);
  } else {
    std::cout << options.id << (options.dry_run ? " would be" : " is") << " revoked\n";
  }
  return {};
}

void add_fabric(CLI::App& keys, Action& action) {
  auto directory = std::make_shared<std::string>("keys");
  CLI::App* fabric = keys.add_subcommand(
      "fabric", "Make a key pair for every service; files that exist stay as they are");
  fabric->add_option("--out", *directory, "The directory")->capture_default_str();
  fabric->callback([directory, &action] {
    action = [directory]() -> Status {
      CONCLAVE_TRY(const auto written, fabric::write_keys(*directory));
      for (const std::string& name : written) std::cout << *directory << "/" << name << "\n";
      if (written.empty()) std::cout << "all keys were there already\n";
      return {};
    };
  });
}

}  // namespace

void add_keys(CLI::App& app, Action& action) {
  CLI::App* keys = app.add_subcommand("keys", "Keys of services, and of clients of the API");
  keys->require_subcommand(1);
  add_fabric(*keys, action);

  auto made = std::make_shared<KeyOptions>();
  CLI::App* command = keys->add_subcommand("create", "Make an API key and show its secret once");
  command->add_option("--tenant", made->tenant, "Whose key it is")->required();
  command->add_option("--name", made->name, "For people");
  command->add_option("--role", made->role, "What it may: ask models, look, or administer")
      ->check(CLI::IsMember({"inference", "read", "admin"}))
      ->capture_default_str();
  command->add_option("--model", made->models, "Only this model; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--expires", made->expires, "How long it is good: 90d, 12h (default: ever)");
  add_admin_options(*command, *made, true);
  on_admin(*command, action, *made,
           [made](const AdminClient& client) { return create(*made, client); });

  auto listed = std::make_shared<KeyOptions>();
  command = keys->add_subcommand("list", "API keys, without their secrets");
  command->add_option("--tenant", listed->tenant, "Only those of this tenant");
  add_admin_options(*command, *listed, false);
  on_admin(*command, action, *listed,
           [listed](const AdminClient& client) { return list(*listed, client); });

  auto revoked = std::make_shared<KeyOptions>();
  command = keys->add_subcommand("revoke", "Make an API key useless, for good");
  command->add_option("id", revoked->id, "As `keys list` shows it")->required();
  add_admin_options(*command, *revoked, true);
  on_admin(*command, action, *revoked,
           [revoked](const AdminClient& client) { return revoke(*revoked, client); });
}

}  // namespace conclave::cli
