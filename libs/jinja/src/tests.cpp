// The tests: `x is name` and the conditions of select() and selectattr().
#include <cmath>

#include "builtins.hpp"
#include "operators.hpp"
#include "text.hpp"

namespace conclave::jinja {
namespace {

using base::Result;

struct TestRow {
  std::string_view name;
  TestFunction function;
};

template <bool (Value::*Predicate)() const>
Result<bool> is_type(Interpreter&, const Value& value, const Arguments&) {
  return (value.*Predicate)();
}

Result<bool> is_defined(Interpreter&, const Value& value, const Arguments&) {
  return !value.is_undefined();
}
Result<bool> is_true(Interpreter&, const Value& value, const Arguments&) {
  return value.is_bool() && value.as_bool();
}
Result<bool> is_false(Interpreter&, const Value& value, const Arguments&) {
  return value.is_bool() && !value.as_bool();
}
Result<bool> is_iterable(Interpreter&, const Value& value, const Arguments&) {
  return (value.is_array() && !value.is_tuple()) || value.is_string();
}
Result<bool> is_sequence(Interpreter&, const Value& value, const Arguments&) {
  return value.is_array() || value.is_object() || value.is_string();
}

Result<bool> is_odd(Interpreter&, const Value& value, const Arguments&) {
  if (!value.is_int()) return broken(concat({"cannot test if ", type_name(value), " is odd"}));
  return value.as_int() % 2 != 0;
}
Result<bool> is_even(Interpreter&, const Value& value, const Arguments&) {
  if (!value.is_int()) return broken(concat({"cannot test if ", type_name(value), " is even"}));
  return value.as_int() % 2 == 0;
}

Result<bool> is_lower(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_string()) return false;
  CONCLAVE_TRY_VOID(in.budget().allocate(value.as_string().size()));
  return value.as_string() == to_lower(value.as_string());
}
Result<bool> is_upper(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_string()) return false;
  CONCLAVE_TRY_VOID(in.budget().allocate(value.as_string().size()));
  return value.as_string() == to_upper(value.as_string());
}

Result<Value> operand(const Arguments& arguments) {
  if (arguments.positional.size() != 1) return broken("the test needs one argument");
  return arguments.positional[0];
}

Result<bool> is_equal(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const Value other, operand(arguments));
  return strictly_equal(value, other, in.budget());
}
Result<bool> is_unequal(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const bool equal, is_equal(in, value, arguments));
  return !equal;
}

Result<bool> is_same(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const Value other, operand(arguments));
  if (value.type() != other.type()) return false;
  return strictly_equal(value, other, in.budget());
}

Result<bool> is_in(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const Value container, operand(arguments));
  if (container.is_undefined()) return false;
  return contains(container, value, in.budget());
}

template <BinaryOperator Op>
Result<bool> compares(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const Value other, operand(arguments));
  CONCLAVE_TRY(const Value result, apply_binary(Op, value, other, in.budget()));
  return result.truthy();
}

Result<bool> is_divisible(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const Value divisor, operand(arguments));
  CONCLAVE_TRY(const Value rest,
               apply_binary(BinaryOperator::kRemainder, value, divisor, in.budget()));
  return !rest.truthy();
}

constexpr TestRow kTests[] = {
    {"boolean", is_type<&Value::is_bool>},
    {"callable", is_type<&Value::is_callable>},
    {"defined", is_defined},
    {"divisibleby", is_divisible},
    {"eq", is_equal},
    {"equalto", is_equal},
    {"even", is_even},
    {"false", is_false},
    {"float", is_type<&Value::is_float>},
    {"ge", compares<BinaryOperator::kGreaterEqual>},
    {"greaterthan", compares<BinaryOperator::kGreater>},
    {"gt", compares<BinaryOperator::kGreater>},
    {"in", is_in},
    {"integer", is_type<&Value::is_int>},
    {"iterable", is_iterable},
    {"le", compares<BinaryOperator::kLessEqual>},
    {"lessthan", compares<BinaryOperator::kLess>},
    {"lower", is_lower},
    {"lt", compares<BinaryOperator::kLess>},
    {"mapping", is_type<&Value::is_object>},
    {"ne", is_unequal},
    {"none", is_type<&Value::is_null>},
    {"number", is_type<&Value::is_number>},
    {"odd", is_odd},
    {"sameas", is_same},
    {"sequence", is_sequence},
    {"string", is_type<&Value::is_string>},
    {"true", is_true},
    {"undefined", is_type<&Value::is_undefined>},
    {"upper", is_upper},
};

}  // namespace

TestFunction find_test(std::string_view name) {
  for (const TestRow& row : kTests) {
    if (row.name == name) return row.function;
  }
  return nullptr;
}

}  // namespace conclave::jinja
