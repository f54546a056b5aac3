#include "interpreter.hpp"

#include <algorithm>
#include <utility>

#include "builtins.hpp"
#include "lexer.hpp"
#include "namespace.hpp"
#include "operators.hpp"
#include "text.hpp"

namespace conclave::jinja {

using base::ErrorCode;
using base::Result;
using base::Status;

Interpreter::Interpreter(const Program& program, const RenderOptions& options)
    : program_(program), options_(options), budget_(options) {}

Interpreter::~Interpreter() {
  for (const std::shared_ptr<Namespace>& value : namespaces_) value->entries = Object();
}

Result<std::string> Interpreter::run(const Object& context) {
  const auto globals = std::make_shared<Environment>();
  define_globals(*globals);
  for (const auto& [name, value] : context.entries()) {
    if (is_builtin_name(name)) {
      return broken(concat({"the variable '", name, "' would hide a built-in"}));
    }
    CONCLAVE_TRY_VOID(check_depth(value));
    globals->set(name, value);
  }
  std::string out;
  CONCLAVE_TRY(const Flow flow, execute(program_.body, globals, out));
  if (flow != Flow::kNext) return broken("a break or continue outside of a loop");
  return out;
}

Status Interpreter::check_depth(const Value& value) const {
  if (value.depth() > kValueDepthMax) {
    return base::fail(ErrorCode::kOverloaded, "a value nests too deeply");
  }
  return {};
}

Result<Value> Interpreter::make_text(std::string text) {
  CONCLAVE_TRY_VOID(budget_.allocate(text.size()));
  return Value(std::move(text));
}

Result<Value> Interpreter::make_list(Array items) {
  CONCLAVE_TRY_VOID(budget_.allocate(items.size() * sizeof(Value)));
  Value list(std::move(items));
  CONCLAVE_TRY_VOID(check_depth(list));
  return list;
}

Result<Value> Interpreter::make_tuple(Array items) {
  CONCLAVE_TRY_VOID(budget_.allocate(items.size() * sizeof(Value)));
  Value tuple = Value::tuple(std::move(items));
  CONCLAVE_TRY_VOID(check_depth(tuple));
  return tuple;
}

Result<Value> Interpreter::make_object(Object object) {
  CONCLAVE_TRY_VOID(budget_.allocate(object.size() * sizeof(Object::Entry)));
  Value value(std::move(object));
  CONCLAVE_TRY_VOID(check_depth(value));
  return value;
}

Value Interpreter::make_namespace(Object entries) {
  auto value = std::make_shared<Namespace>(Namespace{std::move(entries)});
  namespaces_.push_back(value);
  return value;
}

void Interpreter::locate(base::Error& error, std::uint32_t offset) {
  if (located_) return;
  located_ = true;
  // A refusal speaks to the author of the request, who does not know the template.
  if (error.code == ErrorCode::kInvalidArgument) return;
  error = error.within(position_text(program_.source, offset));
}

Result<Value> Interpreter::evaluate(const Expression& expression, const EnvironmentPtr& scope) {
  if (depth_ >= options_.depth_max) {
    return base::fail(ErrorCode::kOverloaded, "the template recurses too deeply");
  }
  CONCLAVE_TRY_VOID(budget_.step());
  ++depth_;
  Result<Value> value =
      std::visit([&](const auto& node) { return eval(node, scope); }, expression.node);
  --depth_;
  if (!value) locate(value.error(), expression.offset);
  return value;
}

Result<Value> Interpreter::eval(const LiteralNode& node, const EnvironmentPtr&) {
  return node.value;
}

Result<Value> Interpreter::eval(const NameNode& node, const EnvironmentPtr& scope) {
  return scope->lookup(node.name);
}

Result<Value> Interpreter::eval(const ListNode& node, const EnvironmentPtr& scope) {
  Array items;
  items.reserve(node.items.size());
  for (const ExpressionPtr& item : node.items) {
    CONCLAVE_TRY(Value value, evaluate(*item, scope));
    items.push_back(std::move(value));
  }
  return node.tuple ? make_tuple(std::move(items)) : make_list(std::move(items));
}

Result<Value> Interpreter::eval(const DictNode& node, const EnvironmentPtr& scope) {
  Object object;
  for (const auto& [key_expression, value_expression] : node.entries) {
    CONCLAVE_TRY(const Value key, evaluate(*key_expression, scope));
    if (!key.is_string()) {
      return broken(concat({"a dict key must be a string, not ", type_name(key)}));
    }
    CONCLAVE_TRY(Value value, evaluate(*value_expression, scope));
    CONCLAVE_TRY_VOID(budget_.allocate(key.as_string().size()));
    object.set(key.as_string(), std::move(value));
  }
  return make_object(std::move(object));
}

Result<Value> Interpreter::eval(const UnaryNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(const Value operand, evaluate(*node.operand, scope));
  return apply_unary(node.op, operand);
}

Result<Value> Interpreter::eval(const BinaryNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(Value left, evaluate(*node.left, scope));
  if (node.op == BinaryOperator::kAnd) return left.truthy() ? evaluate(*node.right, scope) : left;
  if (node.op == BinaryOperator::kOr) return left.truthy() ? left : evaluate(*node.right, scope);
  CONCLAVE_TRY(const Value right, evaluate(*node.right, scope));
  CONCLAVE_TRY_VOID(budget_.scan(left));
  CONCLAVE_TRY_VOID(budget_.scan(right));
  return apply_binary(node.op, left, right, budget_);
}

Result<Value> Interpreter::eval(const MemberNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(const Value object, evaluate(*node.object, scope));
  CONCLAVE_TRY(const Value key, evaluate(*node.key, scope));
  CONCLAVE_TRY_VOID(budget_.scan(object));
  CONCLAVE_TRY_VOID(budget_.scan(key));
  CONCLAVE_TRY(Value member, get_member(object, key));
  // It may be a method bound just now.
  if (member.is_callable()) CONCLAVE_TRY_VOID(budget_.allocate(sizeof(Callable)));
  return member;
}

Result<Value> Interpreter::eval(const CallNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(Arguments arguments, evaluate_arguments(node.arguments, scope));
  CONCLAVE_TRY(const Value callee, evaluate(*node.callee, scope));
  if (!callee.is_callable()) {
    return broken(concat({"cannot call ", type_name(callee), " as a function"}));
  }
  return callee.as_callable().call(*this, scope, std::move(arguments));
}

Result<Value> Interpreter::eval(const FilterNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(const Value operand, evaluate(*node.operand, scope));
  return apply_filter(node.filter, operand, scope);
}

Result<Value> Interpreter::apply_filter(const Modifier& filter, const Value& operand,
                                        const EnvironmentPtr& scope) {
  const FilterFunction function = find_filter(filter.name);
  if (function == nullptr) return broken(concat({"unknown filter '", filter.name, "'"}));
  CONCLAVE_TRY(const Arguments arguments, evaluate_arguments(filter.arguments, scope));
  CONCLAVE_TRY_VOID(budget_.scan(operand));
  return function(*this, operand, arguments);
}

Result<Value> Interpreter::eval(const TestNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(const Value operand, evaluate(*node.operand, scope));
  const TestFunction function = find_test(node.test.name);
  if (function == nullptr) return broken(concat({"unknown test '", node.test.name, "'"}));
  CONCLAVE_TRY(const Arguments arguments, evaluate_arguments(node.test.arguments, scope));
  CONCLAVE_TRY_VOID(budget_.scan(operand));
  CONCLAVE_TRY(const bool passed, function(*this, operand, arguments));
  return Value(passed != node.negated);
}

Result<Value> Interpreter::eval(const ConditionalNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(const Value condition, evaluate(*node.condition, scope));
  if (condition.truthy()) return evaluate(*node.yes, scope);
  if (node.no == nullptr) return Value();
  return evaluate(*node.no, scope);
}

namespace {

/// The part of Python's slice rules that turns a given or missing bound into a position.
std::int64_t slice_bound(const Value& bound, std::int64_t missing, std::int64_t size,
                         std::int64_t low, std::int64_t high) {
  if (bound.is_undefined()) return missing;
  const std::int64_t given = bound.as_int();
  return std::clamp(given < 0 ? given + size : given, low, high);
}

std::vector<std::size_t> slice_positions(std::size_t count, const Value& start, const Value& stop,
                                         const Value& step_value) {
  const auto size = static_cast<std::int64_t>(count);
  const std::int64_t step = step_value.is_undefined() ? 1 : step_value.as_int();
  std::vector<std::size_t> positions;
  if (step == 0) return positions;
  const bool forward = step > 0;
  const std::int64_t low = forward ? 0 : -1;
  const std::int64_t high = forward ? size : size - 1;
  const std::int64_t first = slice_bound(start, forward ? 0 : size - 1, size, low, high);
  const std::int64_t last = slice_bound(stop, forward ? size : -1, size, low, high);
  // The distance to the end is compared before adding, so a huge step cannot overflow.
  std::int64_t at = first;
  while (forward ? at < last : at > last) {
    positions.push_back(static_cast<std::size_t>(at));
    if (forward ? step >= last - at : step <= last - at) break;
    at += step;
  }
  return positions;
}

}  // namespace

Result<Value> Interpreter::eval(const SliceNode& node, const EnvironmentPtr& scope) {
  CONCLAVE_TRY(const Value object, evaluate(*node.object, scope));
  if (!object.is_array() && !object.is_string()) {
    return broken(concat({"cannot slice ", type_name(object)}));
  }
  Value bounds[3];
  const ExpressionPtr* parts[3] = {&node.start, &node.stop, &node.step};
  for (std::size_t i = 0; i < 3; ++i) {
    if (*parts[i] != nullptr) {
      CONCLAVE_TRY(bounds[i], evaluate(**parts[i], scope));
    }
    if (!bounds[i].is_int() && !bounds[i].is_undefined()) {
      return broken(concat({"a slice bound must be an integer, not ", type_name(bounds[i])}));
    }
  }
  if (object.is_array()) {
    const Array& from = object.as_array();
    CONCLAVE_TRY_VOID(budget_.allocate(from.size() * sizeof(std::size_t)));
    Array items;
    for (const std::size_t at : slice_positions(from.size(), bounds[0], bounds[1], bounds[2])) {
      items.push_back(from[at]);
    }
    return make_list(std::move(items));
  }
  const std::string& from = object.as_string();
  CONCLAVE_TRY_VOID(budget_.allocate(from.size() * 2 * sizeof(std::size_t)));
  const std::vector<std::size_t> starts = character_offsets(from);
  std::string text;
  for (const std::size_t at : slice_positions(starts.size() - 1, bounds[0], bounds[1], bounds[2])) {
    text.append(from, starts[at], starts[at + 1] - starts[at]);
  }
  return make_text(std::move(text));
}

Result<Arguments> Interpreter::evaluate_arguments(const std::vector<Argument>& arguments,
                                                  const EnvironmentPtr& scope) {
  Arguments result;
  const auto add_keyword = [&](std::string_view name, Value value) -> Status {
    if (result.keyword_value(name) != nullptr) {
      return broken(concat({"two values for the argument '", name, "'"}));
    }
    CONCLAVE_TRY_VOID(budget_.allocate(name.size() + sizeof(Object::Entry)));
    CONCLAVE_TRY_VOID(budget_.step(result.keyword.size()));
    CONCLAVE_TRY_VOID(budget_.scan(value));
    result.keyword.emplace_back(name, std::move(value));
    return {};
  };

  // Like Python, all positional values come before any keyword's.
  for (const Argument& argument : arguments) {
    if (argument.kind == Argument::Kind::kPositional) {
      CONCLAVE_TRY(Value value, evaluate(*argument.value, scope));
      CONCLAVE_TRY_VOID(budget_.scan(value));
      result.positional.push_back(std::move(value));
    } else if (argument.kind == Argument::Kind::kSpread) {
      CONCLAVE_TRY(const Value list, evaluate(*argument.value, scope));
      if (!list.is_array()) return broken(concat({"cannot unpack ", type_name(list)}));
      CONCLAVE_TRY_VOID(budget_.allocate(list.as_array().size() * sizeof(Value)));
      for (const Value& item : list.as_array()) result.positional.push_back(item);
    }
  }
  for (const Argument& argument : arguments) {
    if (argument.kind == Argument::Kind::kKeyword) {
      CONCLAVE_TRY(Value value, evaluate(*argument.value, scope));
      CONCLAVE_TRY_VOID(add_keyword(argument.name, std::move(value)));
    } else if (argument.kind == Argument::Kind::kKeywordSpread) {
      CONCLAVE_TRY(const Value object, evaluate(*argument.value, scope));
      if (!object.is_object()) return broken(concat({"cannot unpack ", type_name(object)}));
      for (const auto& [name, value] : object.as_object().entries()) {
        CONCLAVE_TRY_VOID(add_keyword(name, value));
      }
    }
  }
  return result;
}

}  // namespace conclave::jinja
