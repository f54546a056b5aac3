// The parsed template: two small families of nodes, expressions and statements. Depth is bounded
// by the parser, so everything that walks the tree may recurse.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Argument {
  enum class Kind : std::uint8_t { kPositional, kSpread, kKeyword, kKeywordSpread };
  Kind kind = Kind::kPositional;
  std::string name;  // of a keyword
  ExpressionPtr value;
};

/// A filter or a test with its arguments: `join(", ")`.
struct Modifier {
  std::string name;
  std::vector<Argument> arguments;
};

enum class BinaryOperator : std::uint8_t {
  kOr,
  kAnd,
  kIn,
  kNotIn,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kAdd,
  kSubtract,
  kConcatenate,
  kMultiply,
  kDivide,
  kFloorDivide,
  kRemainder,
  kPower,
};

enum class UnaryOperator : std::uint8_t { kNot, kPlus, kMinus };

struct LiteralNode {
  Value value;
};
struct NameNode {
  std::string name;
};
struct ListNode {
  std::vector<ExpressionPtr> items;
  bool tuple = false;
};
struct DictNode {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};
struct UnaryNode {
  UnaryOperator op = UnaryOperator::kNot;
  ExpressionPtr operand;
};
struct BinaryNode {
  BinaryOperator op = BinaryOperator::kOr;
  ExpressionPtr left;
  ExpressionPtr right;
};
/// `object.name`, `object.0` and `object[key]`: a dot makes `key` a literal.
struct MemberNode {
  ExpressionPtr object;
  ExpressionPtr key;
  bool dotted = false;
};
struct SliceNode {
  ExpressionPtr object;
  ExpressionPtr start;  // each may be null
  ExpressionPtr stop;
  ExpressionPtr step;
};
struct CallNode {
  ExpressionPtr callee;
  std::vector<Argument> arguments;
};
struct FilterNode {
  ExpressionPtr operand;
  Modifier filter;
};
struct TestNode {
  ExpressionPtr operand;
  Modifier test;
  bool negated = false;
};
/// `yes if condition else no`; without `else` the result is undefined.
struct ConditionalNode {
  ExpressionPtr condition;
  ExpressionPtr yes;
  ExpressionPtr no;  // may be null
};

struct Expression {
  std::variant<LiteralNode, NameNode, ListNode, DictNode, UnaryNode, BinaryNode, MemberNode,
               SliceNode, CallNode, FilterNode, TestNode, ConditionalNode>
      node;
  std::uint32_t offset = 0;  // in the source
  std::uint32_t depth = 1;   // 1 + that of the deepest child
};

/// Calls `visit` with every direct child.
void for_each_child(const Expression& expression,
                    const std::function<void(const Expression&)>& visit);

struct Statement;
using Block = std::vector<Statement>;

struct Parameter {
  std::string name;
  ExpressionPtr default_value;  // may be null
};

/// What a macro and a call block share. `varargs` and `kwargs` collect surplus arguments, but only
/// for a body that reads them; for any other a surplus argument is an error.
struct MacroBody {
  std::string name;
  std::vector<Parameter> parameters;
  std::vector<Statement> body;
  bool reads_varargs = false;
  bool reads_kwargs = false;
};

struct TextStatement {
  std::string text;
};
struct OutputStatement {
  ExpressionPtr value;
};
struct IfStatement {
  struct Branch {
    ExpressionPtr condition;  // null for `else`
    std::vector<Statement> body;
  };
  std::vector<Branch> branches;
};
struct ForStatement {
  std::vector<std::string> targets;
  bool unpacks = false;  // `for a, b in`: each item is a list of as many values
  ExpressionPtr iterable;
  ExpressionPtr condition;  // may be null
  std::vector<Statement> body;
  std::vector<Statement> otherwise;
};
struct SetStatement {
  ExpressionPtr target;
  ExpressionPtr value;  // null: the output of `body`
  std::vector<Statement> body;
};
struct MacroStatement {
  std::unique_ptr<MacroBody> macro;
};
struct CallStatement {
  ExpressionPtr call;  // a CallNode
  std::unique_ptr<MacroBody> caller;
};
struct FilterStatement {
  Modifier filter;
  std::vector<Statement> body;
};
struct BreakStatement {};
struct ContinueStatement {};

struct Statement {
  std::variant<TextStatement, OutputStatement, IfStatement, ForStatement, SetStatement,
               MacroStatement, CallStatement, FilterStatement, BreakStatement, ContinueStatement>
      node;
  std::uint32_t offset = 0;
};

struct Program {
  std::string source;  // for the positions in messages
  Block body;
};

/// Calls `visit` with every statement of `body` and of the blocks inside, in source order.
void for_each_statement(const Block& body, const std::function<void(const Statement&)>& visit);

}  // namespace conclave::jinja
