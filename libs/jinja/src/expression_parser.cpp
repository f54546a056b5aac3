#include "expression_parser.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "parser.hpp"
#include "text.hpp"

namespace conclave::jinja {
namespace {

struct OperatorRow {
  std::string_view text;
  BinaryOperator op;
  std::size_t precedence;
};

// A larger precedence binds tighter. `not` sits between 1 and 2.
constexpr std::size_t kNotPrecedence = 2;
constexpr std::size_t kTestPrecedence = 6;
constexpr OperatorRow kOperators[] = {
    {"<", BinaryOperator::kLess, 2},        {"<=", BinaryOperator::kLessEqual, 2},
    {">", BinaryOperator::kGreater, 2},     {">=", BinaryOperator::kGreaterEqual, 2},
    {"==", BinaryOperator::kEqual, 2},      {"!=", BinaryOperator::kNotEqual, 2},
    {"+", BinaryOperator::kAdd, 3},         {"-", BinaryOperator::kSubtract, 3},
    {"~", BinaryOperator::kConcatenate, 3}, {"*", BinaryOperator::kMultiply, 4},
    {"/", BinaryOperator::kDivide, 4},      {"//", BinaryOperator::kFloorDivide, 4},
    {"%", BinaryOperator::kRemainder, 4},   {"**", BinaryOperator::kPower, 5},
};

/// The binary operator at the cursor if it has this precedence; consumed then.
std::optional<BinaryOperator> take_operator(TokenStream& tokens, std::size_t precedence) {
  if (precedence == 0) {
    return tokens.accept_name("or") ? std::optional(BinaryOperator::kOr) : std::nullopt;
  }
  if (precedence == 1) {
    return tokens.accept_name("and") ? std::optional(BinaryOperator::kAnd) : std::nullopt;
  }
  if (precedence == 2) {
    if (tokens.accept_name("in")) return BinaryOperator::kIn;
    const Token& second = tokens.peek(1);
    if (tokens.at_name("not") && second.kind == TokenKind::kName && second.text == "in") {
      tokens.next();
      tokens.next();
      return BinaryOperator::kNotIn;
    }
  }
  if (!tokens.at(TokenKind::kOperator)) return std::nullopt;
  for (const OperatorRow& row : kOperators) {
    if (row.precedence != precedence || row.text != tokens.peek().text) continue;
    tokens.next();
    return row.op;
  }
  return std::nullopt;
}

/// Tests whose argument may follow without parentheses: `x is divisibleby 3`.
bool takes_bare_argument(std::string_view test) {
  constexpr std::array<std::string_view, 17> kNames = {
      "divisibleby", "eq", "equalto", "ne", "lt", "lessthan", "le", "gt",   "greaterthan",
      "ge",          "in", "sameas",  "==", "!=", "<",        ">",  "notin"};
  return std::find(kNames.begin(), kNames.end(), test) != kNames.end();
}

bool starts_bare_argument(const Token& token) {
  switch (token.kind) {
    case TokenKind::kName:
      return token.text != "else" && token.text != "or" && token.text != "and" &&
             token.text != "if" && token.text != "is";
    case TokenKind::kString:
    case TokenKind::kInteger:
    case TokenKind::kFloat:
    case TokenKind::kBracketOpen:
    case TokenKind::kBraceOpen:
      return true;
    default:
      return false;
  }
}

}  // namespace

template <class Node>
base::Result<ExpressionPtr> ExpressionParser::make(Node node, std::uint32_t offset) const {
  auto expression = std::make_unique<Expression>(Expression{std::move(node), offset});
  for_each_child(*expression, [&](const Expression& child) {
    expression->depth = std::max(expression->depth, child.depth + 1);
  });
  if (expression->depth > kExpressionDepthMax) {
    return tokens_.error_at(offset, "the expression nests too deeply");
  }
  return expression;
}

base::Result<ExpressionPtr> ExpressionParser::parse_expression() {
  const TokenStream::Level level(tokens_);
  CONCLAVE_TRY_VOID(level.status());
  CONCLAVE_TRY(ExpressionPtr value, parse_binary(0));
  if (!tokens_.at_name("if")) return value;

  const std::uint32_t offset = tokens_.next().offset;
  CONCLAVE_TRY(ExpressionPtr condition, parse_binary(0));
  ExpressionPtr otherwise;
  if (tokens_.accept_name("else")) {
    CONCLAVE_TRY(otherwise, parse_expression());
  }
  return make(ConditionalNode{std::move(condition), std::move(value), std::move(otherwise)},
              offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_expression_list() {
  const std::uint32_t offset = tokens_.peek().offset;
  CONCLAVE_TRY(ExpressionPtr first, parse_expression());
  if (!tokens_.at(TokenKind::kComma)) return first;
  ListNode list{{}, true};
  list.items.push_back(std::move(first));
  while (tokens_.accept(TokenKind::kComma)) {
    const bool trailing = tokens_.at(TokenKind::kParenClose) ||
                          tokens_.at(TokenKind::kStatementClose) || tokens_.at(TokenKind::kAssign);
    if (trailing) break;
    CONCLAVE_TRY(ExpressionPtr item, parse_expression());
    list.items.push_back(std::move(item));
  }
  return make(std::move(list), offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_not() {
  if (!tokens_.at_name("not")) return parse_binary(kNotPrecedence);
  const TokenStream::Level level(tokens_);
  CONCLAVE_TRY_VOID(level.status());
  const std::uint32_t offset = tokens_.next().offset;
  CONCLAVE_TRY(ExpressionPtr operand, parse_not());
  return make(UnaryNode{UnaryOperator::kNot, std::move(operand)}, offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_binary(std::size_t precedence) {
  const auto operand = [&]() -> base::Result<ExpressionPtr> {
    if (precedence + 1 == kNotPrecedence) return parse_not();
    if (precedence + 1 == kTestPrecedence) return parse_test();
    return parse_binary(precedence + 1);
  };
  CONCLAVE_TRY(ExpressionPtr left, operand());
  while (true) {
    const std::uint32_t offset = tokens_.peek().offset;
    const std::optional<BinaryOperator> op = take_operator(tokens_, precedence);
    if (!op) return left;
    CONCLAVE_TRY(ExpressionPtr right, operand());
    CONCLAVE_TRY(left, make(BinaryNode{*op, std::move(left), std::move(right)}, offset));
  }
}

base::Result<ExpressionPtr> ExpressionParser::parse_test() {
  CONCLAVE_TRY(ExpressionPtr operand, parse_filtered());
  while (tokens_.at_name("is")) {
    tokens_.next();
    const bool negated = tokens_.accept_name("not");
    const std::uint32_t offset = tokens_.peek().offset;
    CONCLAVE_TRY(Modifier test, parse_test_modifier());
    CONCLAVE_TRY(operand, make(TestNode{std::move(operand), std::move(test), negated}, offset));
  }
  return operand;
}

base::Result<Modifier> ExpressionParser::parse_test_modifier() {
  if (!tokens_.at(TokenKind::kName)) return tokens_.error("expected the name of a test");
  Modifier test{tokens_.next().text, {}};
  if (tokens_.at(TokenKind::kParenOpen)) {
    CONCLAVE_TRY(test.arguments, parse_arguments());
  } else if (takes_bare_argument(test.name) && starts_bare_argument(tokens_.peek())) {
    CONCLAVE_TRY(ExpressionPtr value, parse_postfix());
    test.arguments.push_back(Argument{Argument::Kind::kPositional, {}, std::move(value)});
  }
  return test;
}

base::Result<ExpressionPtr> ExpressionParser::parse_filtered() {
  CONCLAVE_TRY(ExpressionPtr operand, parse_signed());
  while (tokens_.accept(TokenKind::kPipe)) {
    const std::uint32_t offset = tokens_.peek().offset;
    CONCLAVE_TRY(Modifier filter, parse_filter());
    CONCLAVE_TRY(operand, make(FilterNode{std::move(operand), std::move(filter)}, offset));
  }
  return operand;
}

base::Result<Modifier> ExpressionParser::parse_filter() {
  if (!tokens_.at(TokenKind::kName)) return tokens_.error("expected the name of a filter");
  Modifier filter{tokens_.next().text, {}};
  if (tokens_.at(TokenKind::kParenOpen)) {
    CONCLAVE_TRY(filter.arguments, parse_arguments());
  }
  return filter;
}

base::Result<ExpressionPtr> ExpressionParser::parse_signed() {
  const bool binary_sign = tokens_.at_operator("-") || tokens_.at_operator("+");
  if (!tokens_.at(TokenKind::kUnary) && !binary_sign) return parse_postfix();
  const TokenStream::Level level(tokens_);
  CONCLAVE_TRY_VOID(level.status());
  const Token& sign = tokens_.next();
  const UnaryOperator op = sign.text == "-" ? UnaryOperator::kMinus : UnaryOperator::kPlus;
  const std::uint32_t offset = sign.offset;
  CONCLAVE_TRY(ExpressionPtr operand, parse_signed());
  return make(UnaryNode{op, std::move(operand)}, offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_postfix() {
  CONCLAVE_TRY(ExpressionPtr value, parse_primary());
  while (true) {
    const std::uint32_t offset = tokens_.peek().offset;
    if (tokens_.at(TokenKind::kParenOpen)) {
      CONCLAVE_TRY(std::vector<Argument> arguments, parse_arguments());
      CONCLAVE_TRY(value, make(CallNode{std::move(value), std::move(arguments)}, offset));
    } else if (tokens_.at(TokenKind::kDot) || tokens_.at(TokenKind::kBracketOpen)) {
      CONCLAVE_TRY(value, parse_member(std::move(value)));
    } else {
      return value;
    }
  }
}

base::Result<ExpressionPtr> ExpressionParser::parse_member(ExpressionPtr object) {
  const Token& opening = tokens_.next();
  const std::uint32_t offset = opening.offset;
  if (opening.kind == TokenKind::kBracketOpen) return parse_subscript(std::move(object), offset);

  if (tokens_.at(TokenKind::kInteger)) {
    CONCLAVE_TRY(ExpressionPtr key, parse_number());
    return make(MemberNode{std::move(object), std::move(key), true}, offset);
  }
  if (!tokens_.at(TokenKind::kName)) return tokens_.error("expected a name after '.'");
  const Token& name = tokens_.next();
  CONCLAVE_TRY(ExpressionPtr key, make(LiteralNode{name.text}, name.offset));
  return make(MemberNode{std::move(object), std::move(key), true}, offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_subscript(ExpressionPtr object,
                                                              std::uint32_t offset) {
  // Each colon ends a part; a part may be empty. One part without a colon is a plain index.
  std::vector<ExpressionPtr> parts;
  bool slice = false;
  while (!tokens_.at(TokenKind::kBracketClose)) {
    if (parts.size() == 3) return tokens_.error("expected ']'");
    ExpressionPtr part;
    if (!tokens_.at(TokenKind::kColon)) {
      CONCLAVE_TRY(part, parse_expression());
    }
    parts.push_back(std::move(part));
    if (tokens_.accept(TokenKind::kColon)) {
      slice = true;
    } else if (!tokens_.at(TokenKind::kBracketClose)) {
      return tokens_.error("expected ']'");
    }
  }
  tokens_.next();
  if (parts.empty()) return tokens_.error_at(offset, "expected an index");
  if (!slice) return make(MemberNode{std::move(object), std::move(parts[0]), false}, offset);
  parts.resize(3);
  return make(
      SliceNode{std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2])},
      offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_primary() {
  const Token& token = tokens_.peek();
  switch (token.kind) {
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return parse_number();
    case TokenKind::kString: {
      std::string text;
      while (tokens_.at(TokenKind::kString)) text += tokens_.next().text;
      return make(LiteralNode{std::move(text)}, token.offset);
    }
    case TokenKind::kName:
      tokens_.next();
      tokens_.read_name(token.text);
      return make(NameNode{token.text}, token.offset);
    case TokenKind::kParenOpen:
      return parse_parenthesized();
    case TokenKind::kBracketOpen:
      return parse_list();
    case TokenKind::kBraceOpen:
      return parse_dict();
    default:
      return tokens_.error("expected an expression");
  }
}

base::Result<ExpressionPtr> ExpressionParser::parse_number() {
  const Token& token = tokens_.next();
  std::string_view text = token.text;
  if (text.starts_with('+')) text.remove_prefix(1);
  if (token.kind == TokenKind::kFloat) {
    double value = 0.0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec != std::errc()) return tokens_.error_at(token.offset, "the number is too large");
    return make(LiteralNode{value}, token.offset);
  }
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) return tokens_.error_at(token.offset, "the number is too large");
  return make(LiteralNode{value}, token.offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_parenthesized() {
  const std::uint32_t offset = tokens_.next().offset;
  if (tokens_.accept(TokenKind::kParenClose)) return make(ListNode{{}, true}, offset);
  CONCLAVE_TRY(ExpressionPtr inner, parse_expression_list());
  CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kParenClose, "')'"));
  return inner;
}

base::Result<ExpressionPtr> ExpressionParser::parse_list() {
  ListNode list;
  const std::uint32_t offset = tokens_.next().offset;
  while (!tokens_.accept(TokenKind::kBracketClose)) {
    CONCLAVE_TRY(ExpressionPtr item, parse_expression());
    list.items.push_back(std::move(item));
    tokens_.accept(TokenKind::kComma);  // like the reference, we do without it
  }
  return make(std::move(list), offset);
}

base::Result<ExpressionPtr> ExpressionParser::parse_dict() {
  DictNode dict;
  const std::uint32_t offset = tokens_.next().offset;
  while (!tokens_.accept(TokenKind::kBraceClose)) {
    CONCLAVE_TRY(ExpressionPtr key, parse_expression());
    CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kColon, "':'"));
    CONCLAVE_TRY(ExpressionPtr value, parse_expression());
    dict.entries.emplace_back(std::move(key), std::move(value));
    tokens_.accept(TokenKind::kComma);
  }
  return make(std::move(dict), offset);
}

base::Result<Argument> ExpressionParser::parse_argument() {
  Argument argument;
  if (tokens_.at_operator("**")) {
    tokens_.next();
    argument.kind = Argument::Kind::kKeywordSpread;
  } else if (tokens_.at_operator("*")) {
    tokens_.next();
    argument.kind = Argument::Kind::kSpread;
  } else if (tokens_.at(TokenKind::kName) && tokens_.peek(1).kind == TokenKind::kAssign) {
    argument.kind = Argument::Kind::kKeyword;
    argument.name = tokens_.next().text;
    tokens_.next();
  }
  CONCLAVE_TRY(argument.value, parse_expression());
  return argument;
}

base::Result<std::vector<Argument>> ExpressionParser::parse_arguments() {
  CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kParenOpen, "'('"));
  std::vector<Argument> arguments;
  bool spread = false;
  bool keyword = false;
  while (!tokens_.accept(TokenKind::kParenClose)) {
    const std::uint32_t offset = tokens_.peek().offset;
    CONCLAVE_TRY(Argument argument, parse_argument());
    switch (argument.kind) {
      case Argument::Kind::kPositional:
        if (keyword) return tokens_.error_at(offset, "a positional argument after a keyword");
        if (spread) return tokens_.error_at(offset, "a positional argument after '*'");
        break;
      case Argument::Kind::kSpread:
        if (spread) return tokens_.error_at(offset, "a second '*'");
        spread = true;
        break;
      case Argument::Kind::kKeyword:
        keyword = true;
        break;
      case Argument::Kind::kKeywordSpread:
        break;
    }
    arguments.push_back(std::move(argument));
    tokens_.accept(TokenKind::kComma);
    const bool last = arguments.back().kind == Argument::Kind::kKeywordSpread;
    if (last && !tokens_.at(TokenKind::kParenClose)) {
      return tokens_.error("expected ')' after the '**' argument");
    }
  }
  return arguments;
}

base::Result<std::vector<Parameter>> ExpressionParser::parse_parameters() {
  CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kParenOpen, "'('"));
  std::vector<Parameter> parameters;
  bool defaults = false;
  while (!tokens_.accept(TokenKind::kParenClose)) {
    const Token& name = tokens_.peek();
    CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kName, "the name of a parameter"));
    for (const Parameter& other : parameters) {
      if (other.name == name.text) return tokens_.error_at(name.offset, "a repeated parameter");
    }
    Parameter parameter{name.text, nullptr};
    if (tokens_.accept(TokenKind::kAssign)) {
      CONCLAVE_TRY(parameter.default_value, parse_expression());
      defaults = true;
    } else if (defaults) {
      return tokens_.error_at(name.offset, "a parameter without default after one with");
    }
    parameters.push_back(std::move(parameter));
    tokens_.accept(TokenKind::kComma);
  }
  return parameters;
}

}  // namespace conclave::jinja
