// Settings (fields.hpp) as options of a CLI11 application, for programs that build their own
// command line. Precedence: flag > environment > file > default.
#pragma once

#include <CLI/CLI.hpp>
#include <istream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/config/fields.hpp"

namespace conclave::config {

/// Reads TOML, with two corrections of what CLI11 does by itself: an environment variable wins over
/// the file, and `[router] max_inflight = 3` sets the option --router.max-inflight (`-` and `_` are
/// the same). `app` must outlive it. Tables that name a subcommand go to that subcommand.
class EnvironmentFirst final : public CLI::ConfigTOML {
 public:
  explicit EnvironmentFirst(const CLI::App& app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override;

 private:
  const CLI::App& app_;
};

/// Values from `least` to `most`. CLI11's own Range lets NaN pass and wraps negative numbers into
/// unsigned ones.
template <class T>
CLI::Validator within(T least, T most) {
  return CLI::Validator(
      [range = Range<T>{least, most}](std::string& text) -> std::string {
        return range.parse(text) ? "" : not_a_value(text, range.accepts());
      },
      "");
}

/// Adds one option a field. The defaults are the present values; values out of range are usage
/// errors that name the option. What the fields refer to must outlive the parse.
void bind_fields(CLI::App& app, std::span<const Field> fields);

/// The options of one settings struct: --name, or --section.name.
template <class Settings>
void bind_section(CLI::App& app, std::string_view section, Settings& settings) {
  std::vector<Field> fields;
  append_fields(fields, section, settings);
  bind_fields(app, fields);
}
template <class Settings>
void bind(CLI::App& app, Settings& settings) {
  bind_section(app, "", settings);
}

}  // namespace conclave::config
