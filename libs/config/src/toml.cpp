#include "toml.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <set>
#include <utility>

#include "conclave/base/text.hpp"
#include "conclave/base/utf8.hpp"

namespace conclave::config {
namespace {

using base::ErrorCode;
using base::Result;
using base::Status;

bool is_bare(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

// A number without its underscores, or nothing.
std::string number(std::string_view word) {
  std::string digits;
  for (const char c : word) {
    if (c != '_') digits += c;
  }
  if (digits.starts_with('+')) digits.erase(0, 1);
  const char* const end = digits.data() + digits.size();
  std::from_chars_result done{};
  if (digits.starts_with("0x")) {
    std::uint64_t value = 0;
    done = std::from_chars(digits.data() + 2, end, value, 16);
  } else {
    double value = 0;
    done = std::from_chars(digits.data(), end, value);
  }
  const bool is_number = done.ec == std::errc() && done.ptr == end;
  return is_number ? digits : std::string();
}

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  Result<std::vector<TomlItem>> read() {
    while (skip_blank_lines()) {
      CONCLAVE_TRY_VOID(peek() == '[' ? table() : pair());
      CONCLAVE_TRY_VOID(end_of_line());
    }
    return std::move(items_);
  }

 private:
  [[nodiscard]] char peek() const { return rest_.empty() ? '\0' : rest_.front(); }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t') rest_.remove_prefix(1);
  }
  bool take(std::string_view what) {
    if (!rest_.starts_with(what)) return false;
    rest_.remove_prefix(what.size());
    return true;
  }
  [[nodiscard]] auto error(const std::string& what) const {
    return base::fail(ErrorCode::kInvalidArgument, "line " + std::to_string(line_) + ": " + what);
  }

  void skip_comment() {
    skip_spaces();
    if (peek() == '#') rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
  }
  bool take_line_end() {
    if (!take("\n") && !take("\r\n")) return false;
    ++line_;
    return true;
  }
  /// Goes to the next thing that is no comment; false at the end of the text.
  bool skip_blank_lines() {
    do {
      skip_comment();
    } while (take_line_end());
    return !rest_.empty();
  }
  Status end_of_line() {
    skip_comment();
    if (rest_.empty() || take_line_end()) return {};
    return error("something follows the value: " + base::shown(rest_.substr(0, rest_.find('\n'))));
  }

  Status table() {
    take("[");
    if (peek() == '[') return error("arrays of tables are not settings");
    table_.clear();
    CONCLAVE_TRY(table_, key());
    if (!take("]")) return error("a table's name ends with ]");
    return {};
  }

  Status pair() {
    TomlItem item;
    item.line = line_;
    CONCLAVE_TRY(item.path, key());
    item.path.insert(item.path.begin(), table_.begin(), table_.end());
    if (!seen_.insert(item.path).second) {
      return error("'" + base::printable(item.path.back()) + "' is set twice");
    }
    if (!take("=")) return error("expected key = value");
    skip_spaces();
    if (take("[")) {
      item.is_list = true;
      CONCLAVE_TRY_VOID(list(item.values));
    } else {
      CONCLAVE_TRY(item.values.emplace_back(), value());
    }
    items_.push_back(std::move(item));
    return {};
  }

  /// a, a.b, "a b".c, with spaces around.
  Result<std::vector<std::string>> key() {
    std::vector<std::string> parts;
    do {
      skip_spaces();
      if (peek() == '"' || peek() == '\'') {
        CONCLAVE_TRY(parts.emplace_back(), string());
      } else {
        std::size_t length = 0;
        while (length < rest_.size() && is_bare(rest_[length])) ++length;
        if (length == 0) return error("expected a key");
        parts.emplace_back(rest_.substr(0, length));
        rest_.remove_prefix(length);
      }
      skip_spaces();
    } while (take("."));
    return parts;
  }

  Status list(std::vector<std::string>& values) {
    while (skip_blank_lines()) {
      if (take("]")) return {};
      CONCLAVE_TRY(values.emplace_back(), value());
      skip_blank_lines();
      if (!take(",") && peek() != ']') break;
    }
    return error("a list is [value, value]");
  }

  Result<std::string> value() {
    if (peek() == '"' || peek() == '\'') return string();
    const std::size_t length = std::min(rest_.find_first_of(" \t\r\n,]#"), rest_.size());
    const std::string_view word = rest_.substr(0, length);
    rest_.remove_prefix(length);
    if (word == "true" || word == "false") return std::string(word);
    std::string digits = number(word);
    if (digits.empty()) {
      return error(base::shown(word) + " is no number, true or false; text needs quotation marks");
    }
    return digits;
  }

  Result<std::string> string() {
    if (rest_.starts_with(R"(""")") || rest_.starts_with("'''")) {
      return error("text over several lines is not supported");
    }
    const char quote = peek();
    rest_.remove_prefix(1);
    std::string text;
    while (peek() != quote) {
      const auto byte = static_cast<unsigned char>(peek());
      if (rest_.empty() || byte == '\n' || byte == '\r') {
        return error("the quotation mark is not closed");
      }
      if (byte < 0x20 && byte != '\t') return error("a control character in text");
      rest_.remove_prefix(1);
      if (byte == '\\' && quote == '"') {
        CONCLAVE_TRY_VOID(escape(text));
      } else {
        text += static_cast<char>(byte);
      }
    }
    rest_.remove_prefix(1);
    return text;
  }

  Status escape(std::string& text) {
    constexpr std::string_view kNames = "btnfr\"\\";
    constexpr std::string_view kMeanings = "\b\t\n\f\r\"\\";
    const char name = peek();
    if (const std::size_t at = kNames.find(name); name != '\0' && at != std::string_view::npos) {
      rest_.remove_prefix(1);
      text += kMeanings[at];
      return {};
    }
    const std::size_t digits = name == 'u' ? 4 : name == 'U' ? 8 : 0;
    const std::string_view hex = rest_.substr(rest_.empty() ? 0 : 1, digits);
    std::uint32_t code = 0;
    const auto done = std::from_chars(hex.data(), hex.data() + hex.size(), code, 16);
    const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
    if (digits == 0 || hex.size() < digits || done.ptr != hex.data() + digits || code > 0x10FFFF ||
        is_surrogate) {
      return error("\\" + base::printable(rest_.substr(0, 1)) + " is no escape of TOML");
    }
    rest_.remove_prefix(1 + digits);
    base::utf8::append(text, static_cast<char32_t>(code));
    return {};
  }

  std::string_view rest_;
  std::size_t line_ = 1;
  std::vector<std::string> table_;
  std::vector<TomlItem> items_;
  std::set<std::vector<std::string>> seen_;
};

}  // namespace

base::Result<std::vector<TomlItem>> read_toml(std::string_view text) {
  if (text.size() > kTomlBytesMax) {
    return base::fail(ErrorCode::kInvalidArgument, "more than a MiB of settings");
  }
  if (!base::utf8::valid(text)) {
    return base::fail(ErrorCode::kInvalidArgument, "the text is not UTF-8");
  }
  if (text.find('\0') != std::string_view::npos) {
    return base::fail(ErrorCode::kInvalidArgument, "the text has NUL bytes");
  }
  return Reader(text).read();
}

}  // namespace conclave::config
