#include "conclave/config/bind.hpp"

#include <cstdlib>
#include <iterator>
#include <utility>

#include "toml.hpp"

namespace conclave::config {
namespace {

constexpr char kListDelimiter = ',';

bool is_in_environment(const CLI::Option& option) {
  const char* const value =
      option.get_envname().empty() ? nullptr : std::getenv(option.get_envname().c_str());
  return value != nullptr && *value != '\0';  // CLI11 takes an empty variable for none
}

std::string joined(std::vector<std::string>::const_iterator first,
                   std::vector<std::string>::const_iterator last) {
  std::string key;
  for (; first != last; ++first) key += (key.empty() ? "" : ".") + *first;
  return key;
}

CLI::ConfigError file_error(const TomlItem& item, const std::string& what) {
  return CLI::ConfigError("line " + std::to_string(item.line) + ": " + what);
}

struct Target {
  std::vector<std::string> subcommands;
  std::string name;  // of the option, without dashes
  const CLI::Option* option = nullptr;
};

// The tables that name subcommands lead to one; the rest of the path is the option's name, with
// dashes or, for options that were declared so, as it stands.
Target find(const CLI::App& root, const TomlItem& item) {
  const CLI::App* app = &root;
  auto part = item.path.begin();
  for (; part + 1 != item.path.end(); ++part) {
    const auto named = app->get_subcommands(
        [&](const CLI::App* subcommand) { return subcommand->check_name(*part); });
    if (named.empty()) break;
    app = named.front();
  }
  Target target{{item.path.begin(), part}, joined(part, item.path.end()), nullptr};
  for (const std::string& name : {canonical_key(target.name), target.name}) {
    target.option = app->get_option_no_throw("--" + name);
    if (target.option == nullptr && name.size() == 1) {
      target.option = app->get_option_no_throw("-" + name);
    }
    if (target.option != nullptr) {
      target.name = name;
      return target;
    }
  }
  throw file_error(item,
                   "there is no setting '" + joined(item.path.begin(), item.path.end()) + "'");
}

void check_shape(const TomlItem& item, const Target& target) {
  const bool takes_list =
      target.option->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll ||
      target.option->get_items_expected_max() > 1;
  if (item.is_list && !takes_list) {
    throw file_error(item, "'" + target.name + "' has one value, not a list");
  }
  for (const std::string& value : item.values) {
    // CLI11 splits elements wherever they come from.
    if (target.option->get_delimiter() == kListDelimiter &&
        value.find(kListDelimiter) != value.npos) {
      throw file_error(item, "an element of '" + target.name + "' has a comma");
    }
  }
}

CLI::Option* add_option(CLI::App& app, const Field& field, const std::string& description) {
  const std::string flag = "--" + field.key;
  if (field.is_switch) {
    // A flag, so that --x alone means true; it has no callback of its own, so each() sets it.
    return app.add_flag(flag, description);
  }
  CLI::Option* const option = app.add_option(
      flag,
      [assign = field.assign](const CLI::results_t& values) {
        assign(values);
        return true;
      },
      description);
  if (field.is_list) {
    // One argument a flag, so that a list does not swallow what follows it.
    option->delimiter(kListDelimiter)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  return option;
}

}  // namespace

std::vector<CLI::ConfigItem> EnvironmentFirst::from_config(std::istream& input) const {
  const std::string text{std::istreambuf_iterator<char>(input), {}};
  const auto read = read_toml(text);
  if (!read) throw CLI::ConfigError(read.error().message);
  std::vector<CLI::ConfigItem> settings;
  for (const TomlItem& item : *read) {
    Target target = find(app_, item);
    if (is_in_environment(*target.option)) continue;
    check_shape(item, target);
    CLI::ConfigItem setting;
    setting.parents = std::move(target.subcommands);
    setting.name = std::move(target.name);
    setting.inputs = item.values;
    settings.push_back(std::move(setting));
  }
  return settings;
}

void bind_fields(CLI::App& app, std::span<const Field> fields) {
  for (const Field& field : fields) {
    const std::string accepts = field.accepts.empty() ? "" : " (" + field.accepts + ")";
    const std::string description = field.help + accepts;
    CLI::Option* const option = add_option(app, field, description);
    option->check(
        CLI::Validator([problem = field.problem](std::string& text) { return problem(text); }, ""));
    if (field.is_switch) {
      option->each([assign = field.assign](const std::string& text) { assign({text}); });
    }
    if (const std::size_t dot = field.key.find('.'); dot != std::string::npos) {
      option->group(field.key.substr(0, dot));
    }
    option->default_str(field.toml())->envname(environment_name(field.key));
  }
}

}  // namespace conclave::config
