#include "conclave/config/fields.hpp"

#include <algorithm>
#include <cctype>
#include <map>

namespace conclave::config {

std::string canonical_key(std::string_view key) {
  std::string canonical(key);
  std::replace(canonical.begin(), canonical.end(), '_', '-');
  return canonical;
}

std::string environment_name(std::string_view key) {
  std::string name = "CONCLAVE_";
  for (const char c : key) {
    name +=
        c == '-' || c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

Field& FieldCollector::add(std::string_view name, std::string_view help) {
  const std::string prefix = section_.empty() ? "" : section_ + ".";
  Field& field = out_.emplace_back();
  field.key = canonical_key(prefix + std::string(name));
  field.help = help;
  return field;
}

std::string to_toml(std::span<const Field> fields) {
  // Keys without a table come first: behind a [table] they would belong to it.
  std::map<std::string, std::string> tables;
  for (const Field& field : fields) {
    const std::size_t dot = field.key.rfind('.');
    const std::string table = dot == std::string::npos ? "" : field.key.substr(0, dot);
    std::string name = dot == std::string::npos ? field.key : field.key.substr(dot + 1);
    std::replace(name.begin(), name.end(), '-', '_');
    const std::string accepts = field.accepts.empty() ? "" : " (" + field.accepts + ")";
    tables[table] += "# " + field.help + accepts + "\n" + name + " = " + field.toml() + "\n";
  }
  std::string text;
  for (const auto& [table, lines] : tables) {
    if (!text.empty()) text += '\n';
    if (!table.empty()) text += "[" + table + "]\n";
    text += lines;
  }
  return text;
}

}  // namespace conclave::config
