// The options that every subcommand of the admin API shares, and how their results are printed.
#pragma once

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <functional>
#include <string>
#include <vector>

#include "admin_client.hpp"
#include "commands.hpp"
#include "output.hpp"

namespace conclave::cli {

struct AdminOptions {
  AdminTarget target;
  OutputFormat format = OutputFormat::kTable;
  bool dry_run = false;

  /// The query of a call that changes something: "dry_run" if it was asked for.
  [[nodiscard]] AdminCall::Query changing() const { return {{"dry_run", dry_run ? "true" : ""}}; }
};

/// Adds --url, --key, --state and -o, and --dry-run to a command that changes something.
void add_admin_options(CLI::App& command, AdminOptions& options, bool changes);

/// A command of the admin API: opens the client of `options` (which must live as long as the
/// action) and calls `run` with it.
void on_admin(CLI::App& command, Action& action, const AdminOptions& options,
              std::function<base::Status(const AdminClient& client)> run);

/// A column of a table: its header, and the JSON pointer of its cells.
struct Column {
  std::string header;
  std::string pointer;
};

/// Records as a table, or as one JSON array. Says on standard error that it is old when `stale`.
void print_records(const boost::json::array& records, const std::vector<Column>& columns,
                   OutputFormat format, bool stale = false);

/// One record as lines of "name  value", those that are empty left out; or as one JSON object.
void print_record(const boost::json::value& record, const std::vector<Column>& rows,
                  OutputFormat format, bool stale = false);

}  // namespace conclave::cli
