#include "text.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <span>

#include "case_table.hpp"
#include "conclave/base/utf8.hpp"

namespace conclave::jinja {
namespace {

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000 || c == 0xFEFF;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

char32_t map_case(std::span<const CaseRun> runs, char32_t c) {
  auto run = std::upper_bound(runs.begin(), runs.end(), c,
                              [](char32_t value, const CaseRun& r) { return value < r.first; });
  // Runs of step 2 interleave (every other letter), so the run before may be the one.
  for (int tries = 0; tries < 2 && run != runs.begin(); ++tries) {
    --run;
    if (c <= run->last && (c - run->first) % run->step == 0) {
      return static_cast<char32_t>(static_cast<std::int64_t>(c) + run->delta);
    }
  }
  return c;
}

void append_mapped(std::string& out, char32_t c, std::span<const CaseRun> runs,
                   std::span<const CaseSpecial> specials) {
  const auto special =
      std::lower_bound(specials.begin(), specials.end(), c,
                       [](const CaseSpecial& s, char32_t value) { return s.from < value; });
  if (special != specials.end() && special->from == c) {
    out += special->to;
    return;
  }
  base::utf8::append(out, map_case(runs, c));
}

void append_upper(std::string& out, char32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c));
  } else {
    append_mapped(out, c, kUpperRuns, kUpperSpecials);
  }
}

void append_lower(std::string& out, char32_t c) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c));
  } else {
    append_mapped(out, c, kLowerRuns, kLowerSpecials);
  }
}

template <class Append>
std::string map_text(std::string_view text, Append append) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const base::utf8::Decoded decoded = base::utf8::decode(text);
    append(out, decoded.code_point);
    text.remove_prefix(decoded.length);
  }
  return out;
}

std::string fixed_text(double value) {
  std::array<char, 400> buffer;  // 1.8e308 has 309 digits
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  return {buffer.data(), end.ptr};
}

}  // namespace

std::string concat(std::initializer_list<std::string_view> pieces) {
  std::size_t size = 0;
  for (const std::string_view piece : pieces) size += piece.size();
  std::string out;
  out.reserve(size);
  for (const std::string_view piece : pieces) out.append(piece);
  return out;
}

std::size_t leading_space(std::string_view text) {
  if (text.empty()) return 0;
  const base::utf8::Decoded decoded = base::utf8::decode(text);
  return is_space(decoded.code_point) ? decoded.length : 0;
}

std::size_t trailing_space(std::string_view text) {
  if (text.empty()) return 0;
  std::size_t start = text.size() - 1;
  while (start > 0 && text.size() - start < 4 && is_continuation(text[start])) --start;
  const std::size_t length = leading_space(text.substr(start));
  return length == text.size() - start ? length : 0;
}

std::string_view trim_start(std::string_view text) {
  while (const std::size_t length = leading_space(text)) text.remove_prefix(length);
  return text;
}

std::string_view trim_end(std::string_view text) {
  while (const std::size_t length = trailing_space(text)) text.remove_suffix(length);
  return text;
}

std::size_t find_text(std::string_view text, std::string_view needle, std::size_t from) {
  const void* found =
      ::memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

std::string_view character_at(std::string_view text, std::int64_t index) {
  if (index < 0) index += static_cast<std::int64_t>(character_count(text));
  if (index < 0) return {};
  while (!text.empty()) {
    const std::size_t length = base::utf8::decode(text).length;
    if (index == 0) return text.substr(0, length);
    text.remove_prefix(length);
    --index;
  }
  return {};
}

std::vector<std::size_t> character_offsets(std::string_view text) {
  std::vector<std::size_t> offsets;
  offsets.reserve(text.size() + 1);
  std::size_t at = 0;
  while (at < text.size()) {
    offsets.push_back(at);
    at += base::utf8::decode(text.substr(at)).length;
  }
  offsets.push_back(text.size());
  return offsets;
}

std::size_t character_count(std::string_view text) {
  std::size_t count = 0;
  while (!text.empty()) {
    text.remove_prefix(base::utf8::decode(text).length);
    ++count;
  }
  return count;
}

std::string to_upper(std::string_view text) { return map_text(text, append_upper); }

std::string to_lower(std::string_view text) { return map_text(text, append_lower); }

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const base::utf8::Decoded first = base::utf8::decode(text);
  std::string out;
  append_upper(out, first.code_point);
  out += text.substr(first.length);
  return out;
}

std::string title_case(std::string_view text) {
  std::string out(text);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const bool starts_word = is_word(out[i]) && (i == 0 || !is_word(out[i - 1]));
    if (starts_word && out[i] >= 'a' && out[i] <= 'z') out[i] = static_cast<char>(out[i] - 32);
  }
  return out;
}

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  if (value == 0.0) return "0";

  // d.ddde[+-]xx: the shortest digits; JavaScript places the point by the size of the exponent.
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::fabs(value),
                                 std::chars_format::scientific);
  const std::string_view text(buffer.data(), static_cast<std::size_t>(end.ptr - buffer.data()));
  const std::size_t e = text.find('e');
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  int exponent = 0;
  const std::size_t sign_length = text[e + 1] == '+' ? 1 : 0;
  std::from_chars(text.data() + e + 1 + sign_length, text.data() + text.size(), exponent);

  const int point = exponent + 1;  // digits before the decimal point
  const int count = static_cast<int>(digits.size());
  std::string out = value < 0 ? "-" : "";
  if (point > 21 || point <= -6) {
    out += digits.substr(0, 1);
    if (count > 1) out += concat({".", digits.substr(1)});
    out += exponent < 0 ? "e-" : "e+";
    out += std::to_string(std::abs(exponent));
  } else if (point <= 0) {
    out += "0.";
    out.append(static_cast<std::size_t>(-point), '0');
    out += digits;
  } else if (count <= point) {
    out += digits;
    out.append(static_cast<std::size_t>(point - count), '0');
  } else {
    out += digits.substr(0, static_cast<std::size_t>(point));
    out += concat({".", digits.substr(static_cast<std::size_t>(point))});
  }
  return out;
}

std::string float_text(double value) {
  const bool whole = std::isfinite(value) && std::trunc(value) == value;
  if (!whole || std::fabs(value) >= 1e21) return number_text(value);
  return fixed_text(value) + ".0";
}

std::optional<double> parse_float_prefix(std::string_view text) {
  text = trim_start(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.starts_with("Infinity")) {
    return negative ? -std::numeric_limits<double>::infinity()
                    : std::numeric_limits<double>::infinity();
  }
  // from_chars also knows "inf" and "nan", which are not numbers here.
  const bool numeric = !text.empty() && (is_digit(text[0]) || text[0] == '.');
  if (!numeric) return std::nullopt;
  double value = 0.0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc::invalid_argument) return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) {
    // Too large or too small to tell apart here; a template has no use for either.
    return std::nullopt;
  }
  return negative ? -value : value;
}

IntPrefix parse_int_prefix(std::string_view text) {
  text = trim_start(text);
  const bool plus = text.starts_with('+');
  if (plus) text.remove_prefix(1);
  IntPrefix prefix;
  if (plus && text.starts_with('-')) return prefix;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), prefix.value);
  prefix.found = result.ec != std::errc::invalid_argument;
  prefix.overflow = result.ec == std::errc::result_out_of_range;
  return prefix;
}

}  // namespace conclave::jinja
