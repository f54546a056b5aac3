// How the command prints: aligned tables for people, one JSON object for programs.
#pragma once

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <string>
#include <vector>

namespace conclave::cli {

enum class OutputFormat { kTable, kJson };

/// Adds `-o, --output table|json`.
void add_output_option(CLI::App& app, OutputFormat& format);

/// One object and a newline on stdout.
void print_json(const boost::json::value& value);

/// Rows of cells under a header; columns that hold only numbers are aligned right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] std::string to_string() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// 1536 -> "1.5 KiB".
std::string human_bytes(std::uint64_t bytes);

/// printf-style "%.*f".
std::string fixed(double value, int digits);

}  // namespace conclave::cli
