// Settings declared once. A settings struct has a template member visit(v) that calls
// v(name, member, least, most, help) for each field; bind() makes of it flags, environment
// variables and file keys, all through CLI11. Precedence: flag > environment > file > default.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <istream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace conclave::config {

/// "top-k" -> "CONCLAVE_TOP_K".
inline std::string environment_name(std::string_view option) {
  std::string name = "CONCLAVE_";
  for (const char c : option) {
    name +=
        c == '-' || c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

/// Reads TOML and leaves out what an environment variable says: CLI11 by itself lets the file win.
/// `app` must outlive it.
class EnvironmentFirst final : public CLI::ConfigTOML {
 public:
  explicit EnvironmentFirst(const CLI::App& app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::vector<CLI::ConfigItem> settings = CLI::ConfigTOML::from_config(input);
    std::erase_if(settings,
                  [this](const CLI::ConfigItem& item) { return is_in_environment(item); });
    return settings;
  }

 private:
  [[nodiscard]] bool is_in_environment(const CLI::ConfigItem& item) const {
    const CLI::App* app = &app_;
    for (const std::string& parent : item.parents) {
      const auto named = app->get_subcommands(
          [&](const CLI::App* subcommand) { return subcommand->check_name(parent); });
      if (named.empty()) return false;
      app = named.front();
    }
    const CLI::Option* option = app->get_option_no_throw("--" + item.name);
    return option != nullptr && !option->get_envname().empty() &&
           std::getenv(option->get_envname().c_str()) != nullptr;
  }

  const CLI::App& app_;
};

/// Values from `least` to `most`. CLI11's own Range lets NaN pass and wraps negative numbers into
/// unsigned ones.
template <class T>
CLI::Validator within(T least, T most) {
  const std::string range = CLI::detail::to_string(least) + " to " + CLI::detail::to_string(most);
  return CLI::Validator(
      [least, most, range](std::string& text) -> std::string {
        T value{};
        const bool wraps = std::is_unsigned_v<T> && text.starts_with('-');
        const bool ok =
            !wraps && CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
        return ok ? "" : "'" + text + "' is not a number from " + range;
      },
      "");
}

/// Adds one option a field of `settings` to `app`. The defaults are the present values; values out
/// of range are usage errors that name the option. `settings` must outlive the parse.
template <class Settings>
void bind(CLI::App& app, Settings& settings) {
  settings.visit([&app](const char* name, auto& value, auto least, auto most, const char* help) {
    app.add_option("--" + std::string(name), value, help)
        ->check(within(least, most))
        ->capture_default_str()
        ->envname(environment_name(name));
  });
}

}  // namespace conclave::config
