// What both halves of the parser share: a cursor over tokens, errors with a position, the nesting
// bound, and who reads `varargs` and `kwargs`.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"
#include "lexer.hpp"

namespace conclave::jinja {

/// Which of the two collecting names the macros being parsed have read or declared.
struct SurplusUse {
  bool read = false;
  bool declared = false;
};

struct MacroUse {
  SurplusUse varargs;
  SurplusUse kwargs;
};

class TokenStream {
 public:
  TokenStream(std::string_view source, std::vector<Token> tokens)
      : source_(source), tokens_(std::move(tokens)) {}

  [[nodiscard]] const Token& peek(std::size_t ahead = 0) const;
  const Token& next();

  [[nodiscard]] bool at(TokenKind kind) const { return peek().kind == kind; }
  [[nodiscard]] bool at_operator(std::string_view text) const;
  [[nodiscard]] bool at_name(std::string_view name) const;
  /// At `{%` and the name after it.
  [[nodiscard]] bool at_statement(std::string_view name) const;

  bool accept(TokenKind kind);
  bool accept_name(std::string_view name);
  base::Status expect(TokenKind kind, std::string_view what);
  base::Status expect_name(std::string_view name);

  [[nodiscard]] tl::unexpected<base::Error> error(std::string_view message) const;
  [[nodiscard]] tl::unexpected<base::Error> error_at(std::uint32_t offset,
                                                     std::string_view message) const;

  /// Counts one level of nesting while it lives; `status` fails beyond kNestingMax.
  class Level {
   public:
    explicit Level(TokenStream& stream) : stream_(stream) { ++stream_.level_; }
    ~Level() { --stream_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    [[nodiscard]] base::Status status() const;

   private:
    TokenStream& stream_;
  };

  void read_name(std::string_view name);
  void declare_name(std::string_view name);

  std::vector<MacroUse> macros;  // innermost last

 private:
  std::string_view source_;
  std::vector<Token> tokens_;
  std::size_t position_ = 0;
  std::size_t level_ = 0;
};

}  // namespace conclave::jinja
