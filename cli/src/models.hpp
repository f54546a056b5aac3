// What the files of `conclave models` share: records as people read them.
#pragma once

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <cstddef>
#include <vector>

#include "admin_options.hpp"

namespace conclave::cli {

/// As many as a table of people's can have; pages come by the thousand.
inline constexpr std::size_t kListMax = 100'000;
inline const AdminCall::Query kPage{{"limit", "1000"}};

/// A record with what a table shows in another form than JSON has it, under names that end in
/// "_text": sizes, times, aliases, splits.
boost::json::value for_people(boost::json::value record);

/// JSON is printed as it came, tables for people.
void print_all(boost::json::array records, const std::vector<Column>& columns, OutputFormat format,
               bool stale);
void print_one(const AdminAnswer& answer, const std::vector<Column>& rows, OutputFormat format);

void add_models_alias(CLI::App& models, Action& action);
void add_models_deploy(CLI::App& models, Action& action);
void add_models_split(CLI::App& models, Action& action);

}  // namespace conclave::cli
