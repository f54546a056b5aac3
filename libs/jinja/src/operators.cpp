#include "operators.hpp"

#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

#include "print.hpp"
#include "text.hpp"

namespace conclave::jinja {
namespace {

using base::Result;

constexpr const char* kOverflow = "the integer result does not fit 64 bits";

bool is_missing(const Value& value) { return value.is_null() || value.is_undefined(); }
bool is_numeric(const Value& value) { return value.is_number() || value.is_bool(); }
bool is_container(const Value& value) { return value.is_array() || value.is_object(); }

std::string_view operator_text(BinaryOperator op) {
  switch (op) {
    case BinaryOperator::kOr:
      return "or";
    case BinaryOperator::kAnd:
      return "and";
    case BinaryOperator::kIn:
      return "in";
    case BinaryOperator::kNotIn:
      return "not in";
    case BinaryOperator::kEqual:
      return "==";
    case BinaryOperator::kNotEqual:
      return "!=";
    case BinaryOperator::kLess:
      return "<";
    case BinaryOperator::kLessEqual:
      return "<=";
    case BinaryOperator::kGreater:
      return ">";
    case BinaryOperator::kGreaterEqual:
      return ">=";
    case BinaryOperator::kAdd:
      return "+";
    case BinaryOperator::kSubtract:
      return "-";
    case BinaryOperator::kConcatenate:
      return "~";
    case BinaryOperator::kMultiply:
      return "*";
    case BinaryOperator::kDivide:
      return "/";
    case BinaryOperator::kFloorDivide:
      return "//";
    case BinaryOperator::kRemainder:
      return "%";
    case BinaryOperator::kPower:
      return "**";
  }
  return "?";
}

/// JavaScript's Number(text) for decimal texts; NaN for anything else.
double number_of(std::string_view text) {
  text = trim(text);
  if (text.empty()) return 0.0;
  const bool negative = text[0] == '-';
  std::string_view digits = text;
  if (text[0] == '-' || text[0] == '+') digits.remove_prefix(1);
  const bool numeric = !digits.empty() && ((digits[0] >= '0' && digits[0] <= '9') ||
                                           digits[0] == '.' || digits == "Infinity");
  if (!numeric) return std::numeric_limits<double>::quiet_NaN();
  double value = 0.0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (result.ec != std::errc() || result.ptr != digits.data() + digits.size()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  return negative ? -value : value;
}

bool numbers_equal(const Value& a, const Value& b) {
  if (a.is_int() && b.is_int()) return a.as_int() == b.as_int();
  return to_double(a) == to_double(b);
}

Result<bool> containers_equal(const Value& a, const Value& b, Budget& budget) {
  if (a.is_array() && b.is_array()) {
    if (a.as_array().size() != b.as_array().size()) return false;
    for (std::size_t i = 0; i < a.as_array().size(); ++i) {
      CONCLAVE_TRY(const bool equal, strictly_equal(a.as_array()[i], b.as_array()[i], budget));
      if (!equal) return false;
    }
    return true;
  }
  if (!a.is_object() || !b.is_object() || a.as_object().size() != b.as_object().size()) {
    return false;
  }
  for (const auto& [key, value] : a.as_object().entries()) {
    const Value* other = b.as_object().find(key);
    if (other == nullptr) return false;
    CONCLAVE_TRY(const bool equal, strictly_equal(value, *other, budget));
    if (!equal) return false;
  }
  return true;
}

Result<Value> integer_arithmetic(BinaryOperator op, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case BinaryOperator::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case BinaryOperator::kSubtract:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case BinaryOperator::kMultiply:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case BinaryOperator::kRemainder:
      return Value(b == -1 ? 0 : a % b);
    case BinaryOperator::kFloorDivide: {
      if (b == -1) {
        overflow = __builtin_sub_overflow(std::int64_t{0}, a, &result);
        break;
      }
      const bool inexact_negative = a % b != 0 && ((a < 0) != (b < 0));
      result = a / b - (inexact_negative ? 1 : 0);
      break;
    }
    default:
      break;
  }
  if (overflow) return broken(kOverflow);
  return Value(result);
}

Result<Value> float_arithmetic(BinaryOperator op, double a, double b) {
  switch (op) {
    case BinaryOperator::kAdd:
      return Value(a + b);
    case BinaryOperator::kSubtract:
      return Value(a - b);
    case BinaryOperator::kMultiply:
      return Value(a * b);
    case BinaryOperator::kDivide:
      return Value(a / b);
    case BinaryOperator::kFloorDivide:
      return Value(std::floor(a / b));
    case BinaryOperator::kRemainder:
      return Value(std::fmod(a, b));
    default:
      return Value();
  }
}

Result<Value> power(const Value& left, const Value& right) {
  const double base = to_double(left);
  const double exponent = to_double(right);
  if (base == 0.0 && exponent < 0.0) return broken("zero to a negative power");
  const double approximate = std::pow(base, exponent);
  if (!std::isfinite(approximate)) return broken("the power is not a finite real number");
  if (left.is_float() || right.is_float() || exponent < 0.0) return Value(approximate);

  std::int64_t result = 1;
  std::int64_t factor = left.is_bool() ? left.as_bool() : left.as_int();
  std::int64_t rest = right.is_bool() ? right.as_bool() : right.as_int();
  while (rest > 0) {
    if (rest % 2 != 0 && __builtin_mul_overflow(result, factor, &result)) return broken(kOverflow);
    rest /= 2;
    if (rest > 0 && __builtin_mul_overflow(factor, factor, &factor)) return broken(kOverflow);
  }
  return Value(result);
}

bool compare_numbers(BinaryOperator op, const Value& left, const Value& right) {
  const bool ints = left.is_int() && right.is_int();
  const double a = to_double(left);
  const double b = to_double(right);
  switch (op) {
    case BinaryOperator::kLess:
      return ints ? left.as_int() < right.as_int() : a < b;
    case BinaryOperator::kLessEqual:
      return ints ? left.as_int() <= right.as_int() : a <= b;
    case BinaryOperator::kGreater:
      return ints ? left.as_int() > right.as_int() : a > b;
    default:
      return ints ? left.as_int() >= right.as_int() : a >= b;
  }
}

Result<Value> apply_numbers(BinaryOperator op, const Value& left, const Value& right) {
  switch (op) {
    case BinaryOperator::kLess:
    case BinaryOperator::kLessEqual:
    case BinaryOperator::kGreater:
    case BinaryOperator::kGreaterEqual:
      return Value(compare_numbers(op, left, right));
    case BinaryOperator::kDivide:
    case BinaryOperator::kFloorDivide:
    case BinaryOperator::kRemainder:
      if (to_double(right) == 0.0) return broken("division by zero");
      break;
    case BinaryOperator::kAdd:
    case BinaryOperator::kSubtract:
    case BinaryOperator::kMultiply:
      break;
    default:
      return Value();
  }
  if (left.is_int() && right.is_int() && op != BinaryOperator::kDivide) {
    return integer_arithmetic(op, left.as_int(), right.as_int());
  }
  return float_arithmetic(op, to_double(left), to_double(right));
}

Result<Value> join_texts(const Value& left, const Value& right, Budget& budget) {
  CONCLAVE_TRY(std::string a, operand_text(left, budget));
  CONCLAVE_TRY(const std::string b, operand_text(right, budget));
  CONCLAVE_TRY_VOID(budget.allocate(a.size() + b.size()));
  return Value(std::move(a.append(b)));
}

Result<Value> join_lists(const Array& left, const Array& right, Budget& budget) {
  CONCLAVE_TRY_VOID(budget.allocate((left.size() + right.size()) * sizeof(Value)));
  Array items = left;
  items.insert(items.end(), right.begin(), right.end());
  return Value(std::move(items));
}

Result<Value> repeat(std::string_view text, std::int64_t count, Budget& budget) {
  if (count <= 0 || text.empty()) return Value("");
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(text.size(), static_cast<std::uint64_t>(count), &bytes)) {
    bytes = std::numeric_limits<std::uint64_t>::max();
  }
  CONCLAVE_TRY_VOID(budget.allocate(bytes));
  std::string out;
  out.reserve(bytes);
  for (std::int64_t i = 0; i < count; ++i) out += text;
  return Value(std::move(out));
}

tl::unexpected<base::Error> unsupported(BinaryOperator op, const Value& left, const Value& right) {
  return broken(concat(
      {"cannot apply '", operator_text(op), "' to ", type_name(left), " and ", type_name(right)}));
}

Result<Value> add(const Value& left, const Value& right, Budget& budget) {
  if (left.is_array() && right.is_array()) {
    return join_lists(left.as_array(), right.as_array(), budget);
  }
  if (left.is_string() || right.is_string()) return join_texts(left, right, budget);
  return unsupported(BinaryOperator::kAdd, left, right);
}

}  // namespace

tl::unexpected<base::Error> broken(std::string message) {
  return base::fail(base::ErrorCode::kFailedPrecondition, std::move(message));
}

double to_double(const Value& value) {
  if (value.is_float()) return value.as_float();
  if (value.is_int()) return static_cast<double>(value.as_int());
  return value.is_bool() && value.as_bool() ? 1.0 : 0.0;
}

Result<bool> loosely_equal(const Value& a, const Value& b, Budget& budget) {
  if (is_missing(a) || is_missing(b)) return is_missing(a) && is_missing(b);
  if (is_numeric(a) && is_numeric(b)) return numbers_equal(a, b);
  if (a.is_string() && is_numeric(b)) return number_of(a.as_string()) == to_double(b);
  if (is_numeric(a) && b.is_string()) return to_double(a) == number_of(b.as_string());
  return strictly_equal(a, b, budget);
}

Result<bool> strictly_equal(const Value& a, const Value& b, Budget& budget) {
  CONCLAVE_TRY_VOID(budget.step());
  if (a.is_number() && b.is_number()) return numbers_equal(a, b);
  if (is_container(a) && is_container(b)) return containers_equal(a, b, budget);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Value::Type::kBool:
      return a.as_bool() == b.as_bool();
    case Value::Type::kString:
      CONCLAVE_TRY_VOID(budget.scan(a.as_string().size()));
      return a.as_string() == b.as_string();
    case Value::Type::kNamespace:
      return &a.as_namespace() == &b.as_namespace();
    case Value::Type::kCallable:
      return &a.as_callable() == &b.as_callable();
    default:
      return true;  // none, undefined
  }
}

Result<bool> contains(const Value& container, const Value& item, Budget& budget) {
  if (container.is_array()) {
    for (const Value& element : container.as_array()) {
      CONCLAVE_TRY(const bool equal, strictly_equal(element, item, budget));
      if (equal) return true;
    }
    return false;
  }
  if (item.is_string() && container.is_string()) {
    CONCLAVE_TRY_VOID(budget.scan(container.as_string().size()));
    return find_text(container.as_string(), item.as_string()) != std::string_view::npos;
  }
  if (item.is_string() && container.is_object()) {
    return container.as_object().contains(item.as_string());
  }
  return unsupported(BinaryOperator::kIn, item, container);
}

Result<Value> apply_binary(BinaryOperator op, const Value& left, const Value& right,
                           Budget& budget) {
  if (op == BinaryOperator::kEqual || op == BinaryOperator::kNotEqual) {
    CONCLAVE_TRY(const bool equal, loosely_equal(left, right, budget));
    return Value(equal == (op == BinaryOperator::kEqual));
  }
  const bool membership = op == BinaryOperator::kIn || op == BinaryOperator::kNotIn;
  if (membership && right.is_undefined()) return Value(op == BinaryOperator::kNotIn);
  if (is_missing(left) || is_missing(right)) return unsupported(op, left, right);
  if (membership) {
    if (left.is_array()) return unsupported(op, left, right);
    CONCLAVE_TRY(const bool found, contains(right, left, budget));
    return Value(found == (op == BinaryOperator::kIn));
  }
  if (op == BinaryOperator::kConcatenate) return join_texts(left, right, budget);
  if (op == BinaryOperator::kPower && is_numeric(left) && is_numeric(right)) {
    return power(left, right);
  }
  if (left.is_number() && right.is_number()) return apply_numbers(op, left, right);
  if (op == BinaryOperator::kAdd) return add(left, right, budget);
  if (op == BinaryOperator::kMultiply && left.is_string() && right.is_int()) {
    return repeat(left.as_string(), right.as_int(), budget);
  }
  return unsupported(op, left, right);
}

Result<Value> apply_unary(UnaryOperator op, const Value& operand) {
  if (op == UnaryOperator::kNot) return Value(!operand.truthy());
  if (!is_numeric(operand)) return broken(concat({"cannot put a sign on ", type_name(operand)}));
  if (operand.is_float()) {
    return Value(op == UnaryOperator::kMinus ? -operand.as_float() : operand.as_float());
  }
  const std::int64_t value = operand.is_bool() ? operand.as_bool() : operand.as_int();
  return integer_arithmetic(
      op == UnaryOperator::kMinus ? BinaryOperator::kSubtract : BinaryOperator::kAdd, 0, value);
}

}  // namespace conclave::jinja
