// Text to value and back for each type a setting may have. A rule has accepts() (for people) and
// parse() (nothing unless the text is a value in range).
#pragma once

#include <charconv>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace conclave::config {

template <class T>
inline constexpr bool is_duration = false;
template <class Rep, class Period>
inline constexpr bool is_duration<std::chrono::duration<Rep, Period>> = true;

std::string print_toml(bool) = delete;
std::string print_toml(std::int64_t value);
std::string print_toml(std::uint64_t value);
std::string print_toml(double value);
std::string print_toml(float value);
std::string print_toml(std::string_view text);
std::string print_toml(const std::vector<std::string>& list);
template <std::integral T>
std::string print_toml(T value) {
  if constexpr (std::signed_integral<T>) return print_toml(static_cast<std::int64_t>(value));
  return print_toml(static_cast<std::uint64_t>(value));
}

/// "'9' is not 1 to 8"-like sentence; long or unprintable text is cut and escaped.
std::string not_a_value(std::string_view text, std::string_view accepts);

/// A number from `least` to `most`: decimal, or 0x for integers. NaN is in no range.
template <class T>
struct Range {
  T least;
  T most;

  [[nodiscard]] std::string accepts() const {
    return "a number from " + print_toml(least) + " to " + print_toml(most);
  }
  [[nodiscard]] std::optional<T> parse(std::string_view text) const {
    T value{};
    const char* const end = text.data() + text.size();
    std::from_chars_result done{};
    if constexpr (std::integral<T>) {
      const bool is_hex = text.starts_with("0x");
      done = std::from_chars(text.data() + (is_hex ? 2 : 0), end, value, is_hex ? 16 : 10);
    } else {
      done = std::from_chars(text.data(), end, value);
    }
    if (done.ec != std::errc() || done.ptr != end || !(value >= least && value <= most)) return {};
    return value;
  }
};

struct Switch {
  [[nodiscard]] static std::string accepts() { return "true or false"; }
  [[nodiscard]] static std::optional<bool> parse(std::string_view text);
};

struct AnyText {
  [[nodiscard]] static std::string accepts() { return ""; }
  [[nodiscard]] static std::optional<std::string> parse(std::string_view text) {
    return std::string(text);
  }
};

/// An enum for which argument look-up finds `enum_names(E)`: a range of (name, value) pairs.
template <class E>
struct Choice {
  [[nodiscard]] static std::string accepts() {
    std::string all;
    for (const auto& [name, value] : enum_names(E{})) {
      all += (all.empty() ? "" : ", ") + std::string(name);
    }
    return "one of " + all;
  }
  [[nodiscard]] static std::optional<E> parse(std::string_view text) {
    for (const auto& [name, value] : enum_names(E{})) {
      if (name == text) return value;
    }
    return {};
  }
  [[nodiscard]] static std::string_view name(E choice) {
    for (const auto& [name, value] : enum_names(E{})) {
      if (value == choice) return name;
    }
    return "";
  }
};

}  // namespace conclave::config
