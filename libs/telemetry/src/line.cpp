#include "line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <iterator>
#include <variant>

#include "conclave/base/utf8.hpp"

namespace conclave::telemetry {
namespace {

void append_number(std::string& line, double value) {
  if (std::isfinite(value)) {
    fmt::format_to(std::back_inserter(line), "{}", value);
  } else {
    fmt::format_to(std::back_inserter(line), "\"{}\"", value);  // JSON has no such numbers
  }
}

template <class Text>
void append_value(std::string& line, const LogField::Value& value, Text&& append_string) {
  std::visit(
      [&](const auto& typed) {
        using T = std::decay_t<decltype(typed)>;
        if constexpr (std::same_as<T, std::string_view>) {
          append_string(line, typed);
        } else if constexpr (std::same_as<T, double>) {
          append_number(line, typed);
        } else {
          fmt::format_to(std::back_inserter(line), "{}", typed);
        }
      },
      value);
}

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < '\x7f' && c != '"' && c != '=';
  });
}

}  // namespace

void append_quoted(std::string& line, std::string_view text) {
  std::string_view kept = text.substr(0, kLogValueBytesMax);
  if (kept.size() < text.size()) kept.remove_suffix(base::utf8::incomplete_suffix(kept));
  std::string shown = base::utf8::valid(kept) ? std::string(kept) : base::utf8::sanitize(kept);
  if (kept.size() < text.size()) shown += "...";
  line += boost::json::serialize(boost::json::string_view(shown));
}

void append_word(std::string& line, std::string_view text) {
  if (is_word(text) && text.size() <= kLogValueBytesMax) {
    line += text;
  } else {
    append_quoted(line, text);
  }
}

void append_json_fields(std::string& line, LogFields fields) {
  for (const LogField& field : fields) {
    line += ',';
    append_quoted(line, field.key());
    line += ':';
    append_value(line, field.value(), append_quoted);
  }
}

void append_text_fields(std::string& line, LogFields fields) {
  for (const LogField& field : fields) {
    line += ' ';
    append_word(line, field.key());
    line += '=';
    append_value(line, field.value(), append_word);
  }
}

}  // namespace conclave::telemetry
