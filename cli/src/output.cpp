#include "output.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>
#include <map>

namespace conclave::cli {

void add_output_option(CLI::App& app, OutputFormat& format) {
  const std::map<std::string, OutputFormat> names{{"table", OutputFormat::kTable},
                                                  {"json", OutputFormat::kJson}};
  app.add_option("-o,--output", format, "How to print the result: table or json")
      ->transform(CLI::CheckedTransformer(names).description("table|json"))
      ->default_str("table");
}

void print_json(const boost::json::value& value) {
  std::cout << boost::json::serialize(value) << "\n";
}

std::string Table::to_string() const {
  const auto numeric = [](const std::string& cell) {
    return !cell.empty() && cell.find_first_not_of("0123456789.,-+%x ") == std::string::npos;
  };
  const std::size_t columns = rows_.front().size();
  std::vector<std::size_t> width(columns, 0);
  std::vector<bool> right(columns, rows_.size() > 1);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      width[c] = std::max(width[c], rows_[r][c].size());
      if (r > 0 && !numeric(rows_[r][c])) right[c] = false;
    }
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < columns; ++c) {
      const std::string gap(width[c] - row[c].size(), ' ');
      line += (c == 0 ? "" : "  ") + (right[c] ? gap + row[c] : row[c] + gap);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024.0 && unit + 1 < kUnits.size(); ++unit) value /= 1024.0;
  return fixed(value, unit == 0 ? 0 : 1) + " " + kUnits[unit];
}

std::string fixed(double value, int digits) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

}  // namespace conclave::cli
