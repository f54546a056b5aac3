#include "ast.hpp"

namespace conclave::jinja {
namespace {

using Visit = std::function<void(const Expression&)>;

void visit_if(const ExpressionPtr& expression, const Visit& visit) {
  if (expression != nullptr) visit(*expression);
}

void visit_all(const std::vector<Argument>& arguments, const Visit& visit) {
  for (const Argument& argument : arguments) visit_if(argument.value, visit);
}

struct ChildVisitor {
  const Visit& visit;

  void operator()(const LiteralNode&) const {}
  void operator()(const NameNode&) const {}
  void operator()(const ListNode& node) const {
    for (const ExpressionPtr& item : node.items) visit_if(item, visit);
  }
  void operator()(const DictNode& node) const {
    for (const auto& [key, value] : node.entries) {
      visit_if(key, visit);
      visit_if(value, visit);
    }
  }
  void operator()(const UnaryNode& node) const { visit_if(node.operand, visit); }
  void operator()(const BinaryNode& node) const {
    visit_if(node.left, visit);
    visit_if(node.right, visit);
  }
  void operator()(const MemberNode& node) const {
    visit_if(node.object, visit);
    visit_if(node.key, visit);
  }
  void operator()(const SliceNode& node) const {
    for (const ExpressionPtr* part : {&node.object, &node.start, &node.stop, &node.step}) {
      visit_if(*part, visit);
    }
  }
  void operator()(const CallNode& node) const {
    visit_if(node.callee, visit);
    visit_all(node.arguments, visit);
  }
  void operator()(const FilterNode& node) const {
    visit_if(node.operand, visit);
    visit_all(node.filter.arguments, visit);
  }
  void operator()(const TestNode& node) const {
    visit_if(node.operand, visit);
    visit_all(node.test.arguments, visit);
  }
  void operator()(const ConditionalNode& node) const {
    visit_if(node.condition, visit);
    visit_if(node.yes, visit);
    visit_if(node.no, visit);
  }
};

struct BlockVisitor {
  const std::function<void(const Statement&)>& visit;

  void operator()(const IfStatement& statement) const {
    for (const IfStatement::Branch& branch : statement.branches) {
      for_each_statement(branch.body, visit);
    }
  }
  void operator()(const ForStatement& statement) const {
    for_each_statement(statement.body, visit);
    for_each_statement(statement.otherwise, visit);
  }
  void operator()(const SetStatement& statement) const {
    for_each_statement(statement.body, visit);
  }
  void operator()(const MacroStatement& statement) const {
    for_each_statement(statement.macro->body, visit);
  }
  void operator()(const CallStatement& statement) const {
    for_each_statement(statement.caller->body, visit);
  }
  void operator()(const FilterStatement& statement) const {
    for_each_statement(statement.body, visit);
  }
  void operator()(const TextStatement&) const {}
  void operator()(const OutputStatement&) const {}
  void operator()(const BreakStatement&) const {}
  void operator()(const ContinueStatement&) const {}
};

}  // namespace

void for_each_child(const Expression& expression, const Visit& visit) {
  std::visit(ChildVisitor{visit}, expression.node);
}

void for_each_statement(const Block& body, const std::function<void(const Statement&)>& visit) {
  for (const Statement& statement : body) {
    visit(statement);
    std::visit(BlockVisitor{visit}, statement.node);
  }
}

}  // namespace conclave::jinja
