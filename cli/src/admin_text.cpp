#include "admin_text.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <optional>

#include "conclave/base/text.hpp"
#include "conclave/catalog/reference.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

constexpr std::uint32_t kWeightMax = 1'000'000;
constexpr std::int64_t kDurationMaxMs = std::int64_t{3'653} * 24 * 3600 * 1000;

template <class Number>
std::optional<Number> number_of(std::string_view text) {
  Number number{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || end != text.data() + text.size()) return {};
  return number;
}

// "a/b/c" -> "a", with "b/c" left in `text`.
std::string_view next_part(std::string_view& text) {
  const std::size_t end = std::min(text.find('/'), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

// Sets first_<what> and last_<what>; false if `text` is no range.
bool add_range(json::object& rule, const std::string& what, std::string_view text) {
  if (text.empty() || text == "*") return true;
  const std::size_t dash = text.find('-');
  const auto first = number_of<std::uint32_t>(text.substr(0, dash));
  if (!first) return false;
  rule["first_" + what] = *first;
  const std::string_view end = dash == std::string_view::npos ? text : text.substr(dash + 1);
  if (end.empty()) return true;
  const auto last = number_of<std::uint32_t>(end);
  if (!last || *last < *first) return false;
  rule["last_" + what] = *last;
  return true;
}

}  // namespace

Result<json::array> split_of(const std::vector<std::string>& parts) {
  json::array split;
  for (const std::string& part : parts) {
    const std::size_t equals = part.find('=');
    const std::string reference = part.substr(0, equals);
    CONCLAVE_TRY_VOID(catalog::parse_reference(reference));
    std::uint32_t weight = 1;
    if (equals != std::string::npos) {
      const auto number = number_of<std::uint32_t>(std::string_view(part).substr(equals + 1));
      if (!number || *number == 0 || *number > kWeightMax) {
        return fail(
            ErrorCode::kInvalidArgument,
            base::shown(part) + ": a weight is a number from 1 to " + std::to_string(kWeightMax));
      }
      weight = *number;
    }
    split.push_back(json::object{{"reference", reference}, {"weight", weight}});
  }
  return split;
}

Result<json::array> pins_of(const std::vector<std::string>& rules) {
  json::array pins;
  for (const std::string& text : rules) {
    std::string_view left = text;
    json::object rule{{"worker_group", next_part(left)}};
    const std::string_view layers = next_part(left);
    const std::string_view experts = next_part(left);
    if (rule["worker_group"].get_string().empty() || !left.empty() ||
        !add_range(rule, "layer", layers) || !add_range(rule, "expert", experts)) {
      return fail(ErrorCode::kInvalidArgument,
                  base::shown(text) + " is not GROUP[/LAYERS[/EXPERTS]], as gpu/0-3/*");
    }
    pins.push_back(std::move(rule));
  }
  return pins;
}

std::string time_text(std::int64_t unix_ms) {
  if (unix_ms == 0) return "";
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts{};
  if (::gmtime_r(&seconds, &parts) == nullptr) return "";
  std::array<char, 64> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  return text.data();
}

Result<std::int64_t> duration_ms(std::string_view text) {
  constexpr std::int64_t kHourMs = 3'600'000;
  const char unit = text.empty() ? '\0' : text.back();
  const std::int64_t unit_ms = unit == 'd'   ? 24 * kHourMs
                               : unit == 'h' ? kHourMs
                               : unit == 'm' ? kHourMs / 60
                                             : 0;
  const auto count =
      unit_ms == 0 ? std::nullopt : number_of<std::int64_t>(text.substr(0, text.size() - 1));
  if (!count || *count < 1 || *count > kDurationMaxMs / unit_ms) {
    return fail(ErrorCode::kInvalidArgument,
                base::shown(text) + " is no time as 90d, 12h or 30m of ten years at most");
  }
  return *count * unit_ms;
}

}  // namespace conclave::cli
