#include "parser.hpp"

#include <initializer_list>

#include "conclave/jinja/template.hpp"
#include "expression_parser.hpp"
#include "text.hpp"
#include "token_stream.hpp"

namespace conclave::jinja {
namespace {

using base::ErrorCode;
using base::Result;
using base::Status;

class StatementParser {
 public:
  StatementParser(std::string_view source, std::vector<Token> tokens)
      : tokens_(source, std::move(tokens)), expressions_(tokens_) {}

  Result<Block> parse() {
    Block body;
    while (!tokens_.at(TokenKind::kEnd)) {
      CONCLAVE_TRY_VOID(parse_statement(body));
    }
    return body;
  }

 private:
  /// Statements up to the opening `{%` of one of `ends`, which stays.
  Result<Block> parse_block(std::initializer_list<std::string_view> ends) {
    const TokenStream::Level level(tokens_);
    CONCLAVE_TRY_VOID(level.status());
    Block body;
    while (true) {
      for (const std::string_view end : ends) {
        if (tokens_.at_statement(end)) return body;
      }
      if (tokens_.at(TokenKind::kEnd)) {
        return tokens_.error(concat({"expected '{% ", *(ends.end() - 1), " %}'"}));
      }
      CONCLAVE_TRY_VOID(parse_statement(body));
    }
  }

  /// `%}`, a body, and `{% end %}`.
  Result<Block> parse_body(std::string_view end) {
    CONCLAVE_TRY_VOID(close());
    CONCLAVE_TRY(Block body, parse_block({end}));
    CONCLAVE_TRY_VOID(parse_end());
    return body;
  }

  /// The end tag that parse_block() stopped at.
  Status parse_end() {
    tokens_.next();
    tokens_.next();
    return close();
  }

  Status close() { return tokens_.expect(TokenKind::kStatementClose, "'%}'"); }

  Status parse_statement(Block& into) {
    const Token& token = tokens_.next();
    switch (token.kind) {
      case TokenKind::kComment:
        return {};
      case TokenKind::kText:
        into.push_back({TextStatement{token.text}, token.offset});
        return {};
      case TokenKind::kOutputOpen: {
        CONCLAVE_TRY(ExpressionPtr value, expressions_.parse_expression());
        CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kOutputClose, "'}}'"));
        into.push_back({OutputStatement{std::move(value)}, token.offset});
        return {};
      }
      case TokenKind::kStatementOpen:
        return parse_tag(into, token.offset);
      default:
        return tokens_.error_at(token.offset, "expected text or a tag");
    }
  }

  Status parse_tag(Block& into, std::uint32_t offset) {
    if (!tokens_.at(TokenKind::kName)) return tokens_.error("expected the name of a statement");
    const Token& name = tokens_.next();
    const auto add = [&](auto parsed) -> Status {
      if (!parsed) return base::fail(std::move(parsed).error());
      into.push_back({std::move(*parsed), offset});
      return {};
    };
    if (name.text == "if") return add(parse_if());
    if (name.text == "for") return add(parse_for());
    if (name.text == "set") return add(parse_set());
    if (name.text == "macro") return add(parse_macro());
    if (name.text == "call") return add(parse_call());
    if (name.text == "filter") return add(parse_filter());
    if (name.text == "break" || name.text == "continue") {
      CONCLAVE_TRY_VOID(close());
      if (name.text == "break") into.push_back({BreakStatement{}, offset});
      if (name.text == "continue") into.push_back({ContinueStatement{}, offset});
      return {};
    }
    return tokens_.error_at(name.offset, concat({"unknown statement '", name.text, "'"}));
  }

  Result<IfStatement> parse_if() {
    IfStatement statement;
    bool more = true;
    while (more) {
      CONCLAVE_TRY(ExpressionPtr condition, expressions_.parse_expression());
      CONCLAVE_TRY_VOID(close());
      CONCLAVE_TRY(Block body, parse_block({"elif", "else", "endif"}));
      statement.branches.push_back({std::move(condition), std::move(body)});
      more = tokens_.at_statement("elif");
      if (more) {
        tokens_.next();
        tokens_.next();
      }
    }
    if (tokens_.at_statement("else")) {
      CONCLAVE_TRY_VOID(parse_end());
      CONCLAVE_TRY(Block body, parse_block({"endif"}));
      statement.branches.push_back({nullptr, std::move(body)});
    }
    CONCLAVE_TRY_VOID(parse_end());
    return statement;
  }

  Result<ForStatement> parse_for() {
    ForStatement statement;
    const bool parenthesized = tokens_.accept(TokenKind::kParenOpen);
    while (true) {
      const Token& target = tokens_.peek();
      CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kName, "the name of a loop variable"));
      tokens_.declare_name(target.text);
      statement.targets.push_back(target.text);
      if (!tokens_.accept(TokenKind::kComma)) break;
      statement.unpacks = true;
    }
    if (parenthesized) CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kParenClose, "')'"));
    CONCLAVE_TRY_VOID(tokens_.expect_name("in"));

    CONCLAVE_TRY(statement.iterable, expressions_.parse_expression());
    // `x if condition` without an else reads as a filter on the items.
    auto* conditional = std::get_if<ConditionalNode>(&statement.iterable->node);
    if (conditional != nullptr && conditional->no == nullptr) {
      ExpressionPtr whole = std::move(statement.iterable);
      statement.iterable = std::move(conditional->yes);
      statement.condition = std::move(conditional->condition);
    }
    CONCLAVE_TRY_VOID(close());
    CONCLAVE_TRY(statement.body, parse_block({"else", "endfor"}));
    if (tokens_.at_statement("else")) {
      CONCLAVE_TRY_VOID(parse_end());
      CONCLAVE_TRY(statement.otherwise, parse_block({"endfor"}));
    }
    CONCLAVE_TRY_VOID(parse_end());
    return statement;
  }

  Result<SetStatement> parse_set() {
    SetStatement statement;
    // A target is written like an expression but is not read.
    const std::vector<MacroUse> before = tokens_.macros;
    CONCLAVE_TRY(statement.target, expressions_.parse_expression_list());
    tokens_.macros = before;
    declare_target(*statement.target);
    if (tokens_.accept(TokenKind::kAssign)) {
      CONCLAVE_TRY(statement.value, expressions_.parse_expression_list());
      CONCLAVE_TRY_VOID(close());
    } else {
      CONCLAVE_TRY(statement.body, parse_body("endset"));
    }
    return statement;
  }

  void declare_target(const Expression& target) {
    if (const auto* name = std::get_if<NameNode>(&target.node)) tokens_.declare_name(name->name);
    if (const auto* list = std::get_if<ListNode>(&target.node); list != nullptr && list->tuple) {
      for (const ExpressionPtr& item : list->items) declare_target(*item);
    }
  }

  Result<MacroStatement> parse_macro() {
    auto macro = std::make_unique<MacroBody>();
    const Token& name = tokens_.peek();
    CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kName, "the name of the macro"));
    macro->name = name.text;
    CONCLAVE_TRY(macro->parameters, expressions_.parse_parameters());
    CONCLAVE_TRY_VOID(parse_macro_body(*macro, "endmacro"));
    return MacroStatement{std::move(macro)};
  }

  Status parse_macro_body(MacroBody& macro, std::string_view end) {
    for (const Parameter& parameter : macro.parameters) tokens_.declare_name(parameter.name);
    tokens_.macros.emplace_back();
    for (const Parameter& parameter : macro.parameters) {
      if (parameter.name == "varargs") tokens_.macros.back().varargs.declared = true;
      if (parameter.name == "kwargs") tokens_.macros.back().kwargs.declared = true;
    }
    CONCLAVE_TRY(macro.body, parse_body(end));
    macro.reads_varargs = tokens_.macros.back().varargs.read;
    macro.reads_kwargs = tokens_.macros.back().kwargs.read;
    tokens_.macros.pop_back();
    return {};
  }

  Result<CallStatement> parse_call() {
    auto caller = std::make_unique<MacroBody>();
    caller->name = "caller";
    if (tokens_.at(TokenKind::kParenOpen)) {
      CONCLAVE_TRY(caller->parameters, expressions_.parse_parameters());
    }
    const Token& callee = tokens_.peek();
    CONCLAVE_TRY_VOID(tokens_.expect(TokenKind::kName, "the name of the macro to call"));
    CallNode call;
    call.callee = std::make_unique<Expression>(Expression{NameNode{callee.text}, callee.offset});
    CONCLAVE_TRY(call.arguments, expressions_.parse_arguments());
    CONCLAVE_TRY_VOID(parse_macro_body(*caller, "endcall"));
    auto expression = std::make_unique<Expression>(Expression{std::move(call), callee.offset});
    return CallStatement{std::move(expression), std::move(caller)};
  }

  Result<FilterStatement> parse_filter() {
    FilterStatement statement;
    CONCLAVE_TRY(statement.filter, expressions_.parse_filter());
    CONCLAVE_TRY(statement.body, parse_body("endfilter"));
    return statement;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
};

}  // namespace

Result<std::shared_ptr<const Program>> parse_program(std::string_view source) {
  CONCLAVE_TRY(std::vector<Token> tokens, tokenize(source));
  auto program = std::make_shared<Program>();
  program->source = source;
  CONCLAVE_TRY(program->body, StatementParser(program->source, std::move(tokens)).parse());
  return std::shared_ptr<const Program>(std::move(program));
}

}  // namespace conclave::jinja
