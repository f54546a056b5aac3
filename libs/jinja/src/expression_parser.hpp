// Expressions: from `a if b else c` down to literals.
#pragma once

#include <vector>

#include "ast.hpp"
#include "conclave/base/result.hpp"
#include "token_stream.hpp"

namespace conclave::jinja {

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  base::Result<ExpressionPtr> parse_expression();
  /// One expression, or several with commas between: a tuple.
  base::Result<ExpressionPtr> parse_expression_list();
  base::Result<ExpressionPtr> parse_primary();
  /// `(a, *b, c=d, **e)`.
  base::Result<std::vector<Argument>> parse_arguments();
  /// `(a, b=c)` of a macro.
  base::Result<std::vector<Parameter>> parse_parameters();
  /// A filter's name and, if there are any, its arguments.
  base::Result<Modifier> parse_filter();

 private:
  base::Result<ExpressionPtr> parse_not();
  base::Result<ExpressionPtr> parse_binary(std::size_t precedence);
  base::Result<ExpressionPtr> parse_test();
  base::Result<Modifier> parse_test_modifier();
  base::Result<ExpressionPtr> parse_filtered();
  base::Result<ExpressionPtr> parse_signed();
  base::Result<ExpressionPtr> parse_postfix();
  base::Result<ExpressionPtr> parse_member(ExpressionPtr object);
  base::Result<ExpressionPtr> parse_subscript(ExpressionPtr object, std::uint32_t offset);
  base::Result<ExpressionPtr> parse_number();
  base::Result<ExpressionPtr> parse_parenthesized();
  base::Result<ExpressionPtr> parse_list();
  base::Result<ExpressionPtr> parse_dict();
  base::Result<Argument> parse_argument();

  /// Fails beyond kExpressionDepthMax.
  template <class Node>
  base::Result<ExpressionPtr> make(Node node, std::uint32_t offset) const;

  TokenStream& tokens_;
};

}  // namespace conclave::jinja
