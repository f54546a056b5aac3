// Settings declared once. A settings struct has a template member visit(v) that calls, for each
// field, v(name, member, least, most, help) for numbers and durations, or v(name, member, help) for
// text, switches, lists of text, secrets and enums; this header makes of it a list of fields that
// flags, environment variables and a file can all set. No CLI11 here: services include this.
#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/config/secret.hpp"
#include "conclave/config/values.hpp"

namespace conclave::config {

/// One setting. It refers to the member that it sets, which must outlive it.
struct Field {
  std::string key;      // "router.max-inflight": also the flag, without its dashes
  std::string help;     // one sentence
  std::string accepts;  // "1 to 4096", "true or false", "json, text or auto"; "" for any text
  bool is_list = false;
  bool is_switch = false;
  bool is_secret = false;
  /// An explanation ("'9' is not ...") unless `text` is a value (of an element, for lists).
  std::function<std::string(std::string_view text)> problem;
  /// Sets the member from values that have no problem; one value unless is_list.
  std::function<void(const std::vector<std::string>& values)> assign;
  /// The present value as TOML; a secret as "<secret>".
  std::function<std::string()> toml;
};

/// "router.max_inflight" -> "router.max-inflight"; keys are equal if their canonical forms are.
std::string canonical_key(std::string_view key);

/// "router.max-inflight" -> "CONCLAVE_ROUTER_MAX_INFLIGHT".
std::string environment_name(std::string_view key);

/// What visit() calls. `section` is the part of the key before the dot, or empty.
class FieldCollector {
 public:
  FieldCollector(std::string_view section, std::vector<Field>& out)
      : section_(section), out_(out) {}

  template <class T, class Least, class Most>
  void operator()(std::string_view name, T& value, Least least, Most most, std::string_view help) {
    Field& field = add(name, help);
    if constexpr (is_duration<T>) {
      using Rep = typename T::rep;
      const Range<Rep> range{T(least).count(), T(most).count()};
      bind_value(
          field, range, [&value](Rep count) { value = T(count); },
          [&value] { return print_toml(value.count()); });
    } else {
      static_assert(std::is_arithmetic_v<T> && !std::same_as<T, bool>);
      const Range<T> range{static_cast<T>(least), static_cast<T>(most)};
      bind_value(
          field, range, [&value](T number) { value = number; },
          [&value] { return print_toml(value); });
    }
  }

  template <class T>
  void operator()(std::string_view name, T& value, std::string_view help) {
    Field& field = add(name, help);
    if constexpr (std::same_as<T, bool>) {
      field.is_switch = true;
      bind_value(
          field, Switch{}, [&value](bool on) { value = on; },
          [&value] { return std::string(value ? "true" : "false"); });
    } else if constexpr (std::same_as<T, std::string>) {
      bind_value(
          field, AnyText{}, [&value](std::string text) { value = std::move(text); },
          [&value] { return print_toml(std::string_view(value)); });
    } else if constexpr (std::same_as<T, Secret>) {
      field.is_secret = true;
      bind_value(
          field, AnyText{}, [&value](std::string text) { value = Secret(std::move(text)); },
          [&value] { return std::string(value.empty() ? "\"\"" : "\"<secret>\""); });
    } else if constexpr (std::same_as<T, std::vector<std::string>>) {
      field.is_list = true;
      field.problem = [](std::string_view) { return std::string(); };
      field.assign = [&value](const std::vector<std::string>& values) { value = values; };
      field.toml = [&value] { return print_toml(value); };
    } else {
      static_assert(std::is_enum_v<T>, "a number needs its least and its most");
      bind_value(
          field, Choice<T>{}, [&value](T choice) { value = choice; },
          [&value] { return print_toml(Choice<T>::name(value)); });
    }
  }

 private:
  Field& add(std::string_view name, std::string_view help);

  template <class Rule, class Set, class Print>
  static void bind_value(Field& field, Rule rule, Set set, Print print) {
    field.accepts = rule.accepts();
    field.problem = [rule](std::string_view text) {
      return rule.parse(text) ? std::string() : not_a_value(text, rule.accepts());
    };
    field.assign = [rule, set](const std::vector<std::string>& values) {
      if (auto value = rule.parse(values.back())) set(std::move(*value));
    };
    field.toml = print;
  }

  std::string section_;
  std::vector<Field>& out_;
};

/// The fields of one module's settings, under `section` ("" for none).
template <class Settings>
void append_fields(std::vector<Field>& out, std::string_view section, Settings& settings) {
  settings.visit(FieldCollector(section, out));
}

/// The fields of settings composed of sections: `settings.sections(v)` calls v(section, module).
template <class Settings>
void append_sections(std::vector<Field>& out, Settings& settings) {
  settings.sections(
      [&out](std::string_view section, auto& module) { append_fields(out, section, module); });
}

/// The present values as a TOML file, each with its help and range; secrets as "<secret>".
std::string to_toml(std::span<const Field> fields);

}  // namespace conclave::config
