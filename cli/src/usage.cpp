// `conclave usage` and `conclave tenants ..`: what was used, by whom it may be, and how much.
#include <iostream>
#include <memory>
#include <optional>

#include "commands.hpp"
#include "models.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;
using base::Status;

struct UsageOptions : AdminOptions {
  std::string tenant;
  std::string key_id;
  std::string model;
  std::string from;
  std::string to;
  std::string by = "day";
};

Status usage(const UsageOptions& options, const AdminClient& client) {
  bool stale = false;
  CONCLAVE_TRY(json::array sums, client.list(admin_path({"usage"}),
                                             {{"tenant", options.tenant},
                                              {"key", options.key_id},
                                              {"model", options.model},
                                              {"from", options.from},
                                              {"to", options.to},
                                              {"by", options.by}},
                                             kListMax, &stale));
  std::vector<Column> columns{{"requests", "/requests"},
                              {"prompt tokens", "/prompt_tokens"},
                              {"completion tokens", "/completion_tokens"},
                              {"expert pairs", "/expert_pairs"},
                              {"device seconds", "/device_text"}};
  if (options.by != "total") {
    columns.insert(columns.begin(), {options.by, options.by == "day" ? "/day" : "/group"});
  }
  print_all(std::move(sums), columns, options.format, stale);
  return {};
}

struct TenantOptions : AdminOptions {
  std::string name;
  std::string description;
};

const std::vector<Column> kTenantColumns{
    {"tenant", "/name"}, {"description", "/description"}, {"created", "/created_text"}};

Status create(const TenantOptions& options, const AdminClient& client) {
  CONCLAVE_TRY(const AdminAnswer tenant,
               client.call({.method = "POST",
                            .path = admin_path({"tenants"}),
                            .query = options.changing(),
                            .body = json::object{{"name", options.name},
                                                 {"description", options.description}},
                            .if_match = ""}));
  print_one(tenant, kTenantColumns, options.format);
  return {};
}

Status list(const TenantOptions& options, const AdminClient& client) {
  bool stale = false;
  CONCLAVE_TRY(json::array all, client.list(admin_path({"tenants"}), kPage, kListMax, &stale));
  print_all(std::move(all), kTenantColumns, options.format, stale);
  return {};
}

struct QuotaOptions : AdminOptions {
  std::string tenant;
  std::optional<std::uint64_t> requests_per_minute;  // as all of them; none: it stays
  std::optional<std::uint64_t> tokens_per_minute;
  std::optional<std::uint64_t> tokens_per_day;
  std::optional<std::uint64_t> tokens_per_month;
  std::optional<std::uint64_t> concurrent_requests;
};

// Names as the API has them, with their option and what it is.
struct Limit {
  const char* name;
  const char* option;
  const char* help;
  std::optional<std::uint64_t> QuotaOptions::*value;
};
constexpr Limit kLimits[] = {
    {"requests_per_minute", "--requests-per-minute", "Requests a minute (0: no limit)",
     &QuotaOptions::requests_per_minute},
    {"tokens_per_minute", "--tokens-per-minute", "Tokens of prompts and answers a minute",
     &QuotaOptions::tokens_per_minute},
    {"tokens_per_day", "--tokens-per-day", "The same a day (UTC)", &QuotaOptions::tokens_per_day},
    {"tokens_per_month", "--tokens-per-month", "The same a calendar month (UTC)",
     &QuotaOptions::tokens_per_month},
    {"concurrent_requests", "--concurrent-requests", "Requests that are open at once",
     &QuotaOptions::concurrent_requests},
};

// What is not named stays, also if somebody else changes it meanwhile: then the change is refused.
Status quota(const QuotaOptions& options, const AdminClient& client) {
  const std::string path = admin_path({"quotas", options.tenant});
  CONCLAVE_TRY(AdminAnswer quota, client.get(path));
  json::object wanted;
  bool is_change = false;
  for (const Limit& limit : kLimits) {
    const auto& value = options.*limit.value;
    is_change = is_change || value.has_value();
    if (value) {
      wanted[limit.name] = *value;
    } else {
      wanted[limit.name] = quota.body.at(limit.name);
    }
  }
  if (is_change) {
    CONCLAVE_TRY(quota, client.call({.method = "PUT",
                                     .path = path,
                                     .query = options.changing(),
                                     .body = wanted,
                                     .if_match = quota.etag}));
  }
  print_one(quota,
            {{"tenant", "/tenant"},
             {"requests/min", "/requests_per_minute"},
             {"tokens/min", "/tokens_per_minute"},
             {"tokens/day", "/tokens_per_day"},
             {"tokens/month", "/tokens_per_month"},
             {"at once", "/concurrent_requests"}},
            options.format);
  return {};
}

void add_quota(CLI::App& tenants, Action& action) {
  auto options = std::make_shared<QuotaOptions>();
  CLI::App* command = tenants.add_subcommand(
      "quota", "How much a tenant may use: show it, or change what is named");
  command->add_option("tenant", options->tenant, "Whose quota")->required();
  for (const Limit& limit : kLimits) {
    command->add_option(limit.option, (*options).*limit.value, limit.help);
  }
  add_admin_options(*command, *options, true);
  on_admin(*command, action, *options,
           [options](const AdminClient& client) { return quota(*options, client); });
}

}  // namespace

void add_usage(CLI::App& app, Action& action) {
  auto options = std::make_shared<UsageOptions>();
  CLI::App* command = app.add_subcommand("usage", "Requests and tokens, summed");
  command->add_option("--tenant", options->tenant, "Only of this tenant");
  command->add_option("--key-id", options->key_id, "Only by this API key");
  command->add_option("--model", options->model, "Only of this model");
  command->add_option("--from", options->from, "The first day, as 2025-06-15 (UTC)");
  command->add_option("--to", options->to, "The last day");
  command->add_option("--by", options->by, "What a row stands for")
      ->check(CLI::IsMember({"day", "model", "key", "tenant", "total"}))
      ->capture_default_str();
  add_admin_options(*command, *options, false);
  on_admin(*command, action, *options,
           [options](const AdminClient& client) { return usage(*options, client); });
}

void add_tenants(CLI::App& app, Action& action) {
  CLI::App* tenants = app.add_subcommand("tenants", "Who has API keys");
  tenants->require_subcommand(1);
  auto made = std::make_shared<TenantOptions>();
  CLI::App* command = tenants->add_subcommand("create", "Make a tenant");
  command->add_option("name", made->name, "As it is named from then on")->required();
  command->add_option("--description", made->description, "Who it is");
  add_admin_options(*command, *made, true);
  on_admin(*command, action, *made,
           [made](const AdminClient& client) { return create(*made, client); });
  auto listed = std::make_shared<TenantOptions>();
  command = tenants->add_subcommand("list", "All tenants");
  add_admin_options(*command, *listed, false);
  on_admin(*command, action, *listed,
           [listed](const AdminClient& client) { return list(*listed, client); });
  add_quota(*tenants, action);
}

}  // namespace conclave::cli
