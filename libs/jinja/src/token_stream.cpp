#include "token_stream.hpp"

#include <algorithm>

#include "parser.hpp"
#include "text.hpp"

namespace conclave::jinja {

const Token& TokenStream::peek(std::size_t ahead) const {
  return tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
}

const Token& TokenStream::next() {
  const Token& token = peek();
  if (token.kind != TokenKind::kEnd) ++position_;
  return token;
}

bool TokenStream::at_operator(std::string_view text) const {
  return at(TokenKind::kOperator) && peek().text == text;
}

bool TokenStream::at_name(std::string_view name) const {
  return at(TokenKind::kName) && peek().text == name;
}

bool TokenStream::at_statement(std::string_view name) const {
  return at(TokenKind::kStatementOpen) && peek(1).kind == TokenKind::kName && peek(1).text == name;
}

bool TokenStream::accept(TokenKind kind) {
  if (!at(kind)) return false;
  next();
  return true;
}

bool TokenStream::accept_name(std::string_view name) {
  if (!at_name(name)) return false;
  next();
  return true;
}

base::Status TokenStream::expect(TokenKind kind, std::string_view what) {
  if (!accept(kind)) return error(concat({"expected ", what}));
  return {};
}

base::Status TokenStream::expect_name(std::string_view name) {
  if (!accept_name(name)) return error(concat({"expected '", name, "'"}));
  return {};
}

tl::unexpected<base::Error> TokenStream::error(std::string_view message) const {
  if (at(TokenKind::kEnd)) {
    return error_at(peek().offset, concat({message, ", found the end of the template"}));
  }
  const bool shown = !at(TokenKind::kText) && !peek().text.empty() && peek().text.size() <= 40;
  if (!shown) return error_at(peek().offset, message);
  return error_at(peek().offset, concat({message, ", found '", peek().text, "'"}));
}

tl::unexpected<base::Error> TokenStream::error_at(std::uint32_t offset,
                                                  std::string_view message) const {
  return base::fail(base::ErrorCode::kInvalidArgument,
                    concat({position_text(source_, offset), ": ", message}));
}

base::Status TokenStream::Level::status() const {
  if (stream_.level_ > kNestingMax) return stream_.error("the template nests too deeply");
  return {};
}

void TokenStream::read_name(std::string_view name) {
  for (MacroUse& macro : macros) {
    if (name == "varargs" && !macro.varargs.declared) macro.varargs.read = true;
    if (name == "kwargs" && !macro.kwargs.declared) macro.kwargs.read = true;
  }
}

void TokenStream::declare_name(std::string_view name) {
  for (MacroUse& macro : macros) {
    if (name == "varargs") macro.varargs.declared = true;
    if (name == "kwargs") macro.kwargs.declared = true;
  }
}

}  // namespace conclave::jinja
