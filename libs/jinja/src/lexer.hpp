// Template text into tokens. White space control happens here: after the lexer, text is what will
// be printed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::jinja {

enum class TokenKind : std::uint8_t {
  kEnd,
  kText,
  kComment,
  kStatementOpen,
  kStatementClose,
  kOutputOpen,
  kOutputClose,
  kName,
  kInteger,
  kFloat,
  kString,
  kOperator,  // + - ~ * / // % ** and the comparisons
  kUnary,     // a sign that cannot be a binary operator
  kAssign,
  kParenOpen,
  kParenClose,
  kBracketOpen,
  kBracketClose,
  kBraceOpen,
  kBraceClose,
  kComma,
  kDot,
  kColon,
  kPipe,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::uint32_t offset = 0;  // in the source as it was given
  std::string text;          // decoded, for strings
};

/// "3:14" for an offset into `source`; columns count characters from 1.
std::string position_text(std::string_view source, std::size_t offset);

/// Always ends with one kEnd token. `source` is valid UTF-8 of at most kSourceBytesMax bytes.
base::Result<std::vector<Token>> tokenize(std::string_view source);

}  // namespace conclave::jinja
