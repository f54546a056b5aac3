#include "admin_options.hpp"

#include <iostream>

namespace conclave::cli {

namespace {

void warn(bool stale) {
  if (stale) {
    std::cerr << "conclave: the registry cannot reach its database: this is what it last knew\n";
  }
}

}  // namespace

void add_admin_options(CLI::App& command, AdminOptions& options, bool changes) {
  command
      .add_option("--url", options.target.url,
                  "The gateway (default: that of the `conclave up` of --state, else "
                  "http://127.0.0.1:8000)")
      ->envname("CONCLAVE_URL");
  command
      .add_option("--key", options.target.key,
                  "An API key that may administer (default: admin.key of --state, for a gateway of "
                  "this machine)")
      ->envname("CONCLAVE_ADMIN_KEY");
  command.add_option("--state", options.target.state, "State directory of `conclave up`");
  add_output_option(command, options.format);
  if (changes) {
    command.add_flag("--dry-run", options.dry_run, "Check it and show the result; change nothing");
  }
}

void on_admin(CLI::App& command, Action& action, const AdminOptions& options,
              std::function<base::Status(const AdminClient& client)> run) {
  command.callback([&options, &action, run = std::move(run)] {
    action = [&options, run]() -> base::Status {
      CONCLAVE_TRY(const AdminClient client, AdminClient::open(options.target));
      return run(client);
    };
  });
}

void print_records(const boost::json::array& records, const std::vector<Column>& columns,
                   OutputFormat format, bool stale) {
  warn(stale);
  if (format == OutputFormat::kJson) return print_json(records);
  std::vector<std::string> header;
  for (const Column& column : columns) header.push_back(column.header);
  Table table(std::move(header));
  for (const boost::json::value& record : records) {
    std::vector<std::string> row;
    for (const Column& column : columns) row.push_back(cell(record, column.pointer));
    table.add(std::move(row));
  }
  std::cout << table.to_string();
}

void print_record(const boost::json::value& record, const std::vector<Column>& rows,
                  OutputFormat format, bool stale) {
  warn(stale);
  if (format == OutputFormat::kJson) return print_json(record);
  std::size_t width = 0;
  for (const Column& row : rows) width = std::max(width, row.header.size());
  for (const Column& row : rows) {
    const std::string value = cell(record, row.pointer);
    if (value.empty()) continue;
    std::cout << row.header << std::string(width - row.header.size() + 2, ' ') << value << "\n";
  }
}

}  // namespace conclave::cli
