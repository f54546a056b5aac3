// `conclave audit`: who changed what.
#include <iostream>
#include <memory>

#include "admin_operation.hpp"
#include "commands.hpp"
#include "conclave/config/bind.hpp"
#include "models.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::fail;
using base::Status;

struct Options : AdminOptions {
  std::string actor;
  std::string what;
  std::string subject;
  std::uint64_t after = 0;
  std::uint32_t limit = 100;
  bool is_export = false;
  bool verify = false;
};

AdminCall::Query query_of(const Options& options) {
  return {{"actor", options.actor},
          {"action", options.what},
          {"subject", options.subject},
          {"after", options.after == 0 ? "" : std::to_string(options.after)}};
}

// All of it, as it comes: a line of JSON each.
Status export_lines(const Options& options, const AdminClient& client) {
  AdminCall::Query query = query_of(options);
  query.emplace_back("limit", "1000");
  for (std::string next = std::to_string(options.after);;) {
    query[3].second = next == "0" ? "" : next;
    CONCLAVE_TRY(const AdminAnswer page, client.get(admin_path({"audit"}), query));
    const json::object* object = page.body.if_object();
    const json::value* data = object == nullptr ? nullptr : object->if_contains("data");
    if (data == nullptr || !data->is_array()) {
      return fail(ErrorCode::kCorruptData, "the answer is no list");
    }
    for (const json::value& record : data->get_array()) print_json(record);
    const std::string after = cell(page.body, "/next");
    if (after.empty() || !std::cout) return {};
    if (after == next) return fail(ErrorCode::kCorruptData, "the pages do not end");
    next = after;
  }
}

Status verify(const Options& options, const AdminClient& client) {
  CONCLAVE_TRY(const AdminAnswer found,
               run_operation(client, {.method = "POST", .path = admin_path({"audit"}, ":verify")},
                             "verifying the audit"));
  const std::string bad = cell(found.body, "/first_bad");
  const std::string records = cell(found.body, "/records");
  if (options.format == OutputFormat::kJson) print_json(found.body);
  if (bad == "0" || bad.empty()) {
    if (options.format == OutputFormat::kTable) {
      std::cout << records << " records, and each follows from the one before it\n";
    }
    return {};
  }
  return fail(ErrorCode::kCorruptData,
              "record " + bad + " of the audit: " + cell(found.body, "/problem"));
}

Status audit(const Options& options, const AdminClient& client) {
  if (options.verify) return verify(options, client);
  if (options.is_export) return export_lines(options, client);
  AdminCall::Query query = query_of(options);
  query.emplace_back("limit", std::to_string(options.limit));
  bool stale = false;
  CONCLAVE_TRY(json::array records,
               client.list(admin_path({"audit"}), query, options.limit, &stale));
  print_all(std::move(records),
            {{"number", "/sequence"},
             {"at", "/at_text"},
             {"actor", "/actor"},
             {"action", "/action"},
             {"subject", "/subject"},
             {"request", "/request_id"}},
            options.format, stale);
  return {};
}

}  // namespace

void add_audit(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("audit", "Who changed what in the registry, and when");
  command->add_option("--actor", options->actor, "Only what this one did");
  command->add_option("--action", options->what, "Only this, as alias.move or version.*");
  command->add_option("--subject", options->subject, "Only what was done to this");
  command->add_option("--after", options->after, "Only records with higher numbers");
  command->add_option("--limit", options->limit, "Most records that are shown")
      ->check(config::within(1u, 100'000u))
      ->capture_default_str();
  CLI::Option* lines =
      command->add_flag("--export", options->is_export, "All of it, as lines of JSON");
  command->add_flag("--verify", options->verify, "Check the chain of all records")->excludes(lines);
  add_admin_options(*command, *options, false);
  on_admin(*command, action, *options,
           [options](const AdminClient& client) { return audit(*options, client); });
}

}  // namespace conclave::cli
