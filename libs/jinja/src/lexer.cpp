#include "lexer.hpp"

#include <algorithm>
#include <utility>

#include "conclave/base/utf8.hpp"
#include "text.hpp"
#include "whitespace.hpp"

namespace conclave::jinja {
namespace {

using base::ErrorCode;

struct Symbol {
  std::string_view text;
  TokenKind kind;
};

// Longer symbols before their prefixes.
constexpr Symbol kSymbols[] = {
    {"{%", TokenKind::kStatementOpen}, {"%}", TokenKind::kStatementClose},
    {"{{", TokenKind::kOutputOpen},    {"}}", TokenKind::kOutputClose},
    {"(", TokenKind::kParenOpen},      {")", TokenKind::kParenClose},
    {"{", TokenKind::kBraceOpen},      {"}", TokenKind::kBraceClose},
    {"[", TokenKind::kBracketOpen},    {"]", TokenKind::kBracketClose},
    {",", TokenKind::kComma},          {".", TokenKind::kDot},
    {":", TokenKind::kColon},          {"|", TokenKind::kPipe},
    {"<=", TokenKind::kOperator},      {">=", TokenKind::kOperator},
    {"==", TokenKind::kOperator},      {"!=", TokenKind::kOperator},
    {"<", TokenKind::kOperator},       {">", TokenKind::kOperator},
    {"+", TokenKind::kOperator},       {"-", TokenKind::kOperator},
    {"~", TokenKind::kOperator},       {"**", TokenKind::kOperator},
    {"*", TokenKind::kOperator},       {"//", TokenKind::kOperator},
    {"/", TokenKind::kOperator},       {"%", TokenKind::kOperator},
    {"=", TokenKind::kAssign},
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// What a backslash and this letter stand for; 0 if nothing.
char simple_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\'':
    case '"':
    case '\\':
      return c;
    default:
      return 0;
  }
}

class Lexer {
 public:
  explicit Lexer(std::string_view source)
      : source_(source), prepared_(prepare_source(source)), text_(prepared_.text) {}

  base::Result<std::vector<Token>> run() {
    while (at_ < text_.size()) {
      if (in_text() && take_text()) continue;
      CONCLAVE_TRY_VOID(take_tag_part());
    }
    push(TokenKind::kEnd, {}, text_.size());
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] std::string_view rest() const { return text_.substr(at_); }
  [[nodiscard]] bool looking_at(std::string_view expected) const {
    return rest().starts_with(expected);
  }

  [[nodiscard]] TokenKind last() const {
    return tokens_.empty() ? TokenKind::kEnd : tokens_.back().kind;
  }

  [[nodiscard]] bool in_text() const {
    return tokens_.empty() || last() == TokenKind::kStatementClose ||
           last() == TokenKind::kOutputClose || last() == TokenKind::kComment;
  }

  void push(TokenKind kind, std::string_view text, std::size_t at) {
    tokens_.push_back(Token{kind, prepared_.origin[at], std::string(text)});
  }

  [[nodiscard]] tl::unexpected<base::Error> error(std::string_view message, std::size_t at) const {
    return base::fail(ErrorCode::kInvalidArgument,
                      concat({position_text(source_, prepared_.origin[at]), ": ", message}));
  }

  bool take_text() {
    std::size_t end = at_;
    while (end < text_.size()) {
      end = text_.find('{', end);
      if (end == std::string_view::npos) end = text_.size();
      const char next = end + 1 < text_.size() ? text_[end + 1] : '\0';
      if (end == text_.size() || next == '%' || next == '{' || next == '#') break;
      ++end;
    }
    if (end == at_) return false;
    push(TokenKind::kText, text_.substr(at_, end - at_), at_);
    at_ = end;
    return true;
  }

  base::Status take_tag_part() {
    if (looking_at("{#")) return take_comment();
    if (looking_at("{%-") || looking_at("{{-")) {
      strip_text_before();
      take_symbol(kSymbols[text_[at_ + 1] == '%' ? 0 : 2]);
      ++at_;
      return {};
    }
    at_ += rest().size() - trim_start(rest()).size();
    if (at_ == text_.size()) return error("the tag does not end", at_);
    if (looking_at("-%}") || looking_at("-}}")) {
      ++at_;
      take_symbol(kSymbols[text_[at_] == '%' ? 1 : 3]);
      skip_space();
      return {};
    }
    const char c = text_[at_];
    if ((c == '-' || c == '+') && !binary_position()) return take_sign();
    for (const Symbol& symbol : kSymbols) {
      // Inside a dict, "}}" closes two dicts and not the tag.
      if (symbol.kind == TokenKind::kOutputClose && open_braces_ > 0) continue;
      if (!looking_at(symbol.text)) continue;
      take_symbol(symbol);
      return {};
    }
    if (c == '\'' || c == '"') return take_string();
    if (is_digit(c)) {
      take_number(at_, last() != TokenKind::kDot);
      return {};
    }
    if (is_word(c)) {
      const std::size_t begin = at_;
      while (at_ < text_.size() && is_word(text_[at_])) ++at_;
      push(TokenKind::kName, text_.substr(begin, at_ - begin), begin);
      return {};
    }
    return error(concat({"unexpected character '",
                         rest().substr(0, base::utf8::decode(rest()).length), "'"}),
                 at_);
  }

  void take_symbol(const Symbol& symbol) {
    push(symbol.kind, symbol.text, at_);
    at_ += symbol.text.size();
    if (symbol.kind == TokenKind::kOutputOpen) open_braces_ = 0;
    if (symbol.kind == TokenKind::kBraceOpen) ++open_braces_;
    if (symbol.kind == TokenKind::kBraceClose) --open_braces_;
  }

  base::Status take_comment() {
    const std::size_t begin = at_;
    at_ += 2;
    const bool strip_before = looking_at("-");
    if (strip_before) ++at_;
    const std::size_t end = text_.find("#}", at_);
    if (end == std::string_view::npos) return error("the comment does not end", begin);
    const bool strip_after = end > at_ && text_[end - 1] == '-';
    if (strip_before) strip_text_before();
    push(TokenKind::kComment, {}, begin);
    at_ = end + 2;
    if (strip_after) skip_space();
    return {};
  }

  void strip_text_before() {
    if (last() != TokenKind::kText) return;
    std::string& text = tokens_.back().text;
    text.resize(trim_end(text).size());
    if (text.empty()) tokens_.pop_back();
  }

  void skip_space() { at_ += rest().size() - trim_start(rest()).size(); }

  /// True if a sign here joins two operands.
  [[nodiscard]] bool binary_position() const {
    return last() == TokenKind::kName || last() == TokenKind::kInteger ||
           last() == TokenKind::kFloat || last() == TokenKind::kString ||
           last() == TokenKind::kParenClose || last() == TokenKind::kBracketClose;
  }

  base::Status take_sign() {
    if (last() == TokenKind::kText || last() == TokenKind::kEnd) {
      return error("a sign outside of a tag", at_);
    }
    const std::size_t begin = at_++;
    if (at_ < text_.size() && is_digit(text_[at_])) {
      take_number(begin, true);
    } else {
      push(TokenKind::kUnary, text_.substr(begin, 1), begin);
    }
    return {};
  }

  /// Digits at `at_`; the token starts at `begin`, which may be a sign before.
  void take_number(std::size_t begin, bool fraction_allowed) {
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    const bool fraction =
        fraction_allowed && at_ + 1 < text_.size() && text_[at_] == '.' && is_digit(text_[at_ + 1]);
    if (fraction) {
      ++at_;
      while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    }
    push(fraction ? TokenKind::kFloat : TokenKind::kInteger, text_.substr(begin, at_ - begin),
         begin);
  }

  base::Status take_string() {
    const std::size_t begin = at_;
    const char quote = text_[at_++];
    std::string value;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\') {
        CONCLAVE_TRY_VOID(take_escape(value));
      } else {
        value.push_back(text_[at_++]);
      }
    }
    if (at_ == text_.size()) return error("the string does not end", begin);
    ++at_;
    push(TokenKind::kString, value, begin);
    return {};
  }

  base::Status take_escape(std::string& value) {
    const std::size_t begin = at_++;
    if (at_ == text_.size()) return error("the string does not end", begin);
    const char letter = text_[at_++];
    if (letter == 'x' || letter == 'u') {
      CONCLAVE_TRY(char32_t code, take_hex(letter == 'x' ? 2 : 4, begin));
      const bool high = code >= 0xD800 && code < 0xDC00;
      if (high && looking_at("\\u")) {
        const std::size_t second = at_;
        at_ += 2;
        CONCLAVE_TRY(const char32_t low, take_hex(4, second));
        if (low >= 0xDC00 && low < 0xE000) {
          code = 0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00);
        } else {
          at_ = second;
        }
      }
      const bool lone_surrogate = code >= 0xD800 && code < 0xE000;
      base::utf8::append(value, lone_surrogate ? base::utf8::kReplacement : code);
      return {};
    }
    const char plain = simple_escape(letter);
    if (plain == 0) return error(concat({"unknown escape \\", {&letter, 1}}), begin);
    value.push_back(plain);
    return {};
  }

  base::Result<char32_t> take_hex(std::size_t digits, std::size_t escape_at) {
    char32_t code = 0;
    for (std::size_t i = 0; i < digits; ++i, ++at_) {
      const int digit = at_ < text_.size() ? hex_digit(text_[at_]) : -1;
      if (digit < 0) return error("bad hexadecimal escape", escape_at);
      code = code * 16 + static_cast<char32_t>(digit);
    }
    return code;
  }

  std::string_view source_;
  PreparedSource prepared_;
  std::string_view text_;
  std::size_t at_ = 0;
  int open_braces_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::string position_text(std::string_view source, std::size_t offset) {
  const std::string_view before = source.substr(0, std::min(offset, source.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  const std::size_t column = character_count(before.substr(line_start)) + 1;
  return concat({std::to_string(line), ":", std::to_string(column)});
}

base::Result<std::vector<Token>> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace conclave::jinja
