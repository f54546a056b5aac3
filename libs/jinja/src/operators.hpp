// What the operators do with two values.
#pragma once

#include <string>

#include "ast.hpp"
#include "budget.hpp"
#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

/// kFailedPrecondition: the template broke on its input. The interpreter adds the position.
tl::unexpected<base::Error> broken(std::string message);

/// `==`: numbers by value, none equals undefined, and like JavaScript a string that reads as a
/// number equals it. Containers by content, as in Python.
base::Result<bool> loosely_equal(const Value& a, const Value& b, Budget& budget);

/// As `in`, `unique` and the test `eq` compare: no conversion but between int and float.
base::Result<bool> strictly_equal(const Value& a, const Value& b, Budget& budget);

/// `in`.
base::Result<bool> contains(const Value& container, const Value& item, Budget& budget);

/// Every operator except `and` and `or`, whose right side may not be evaluated.
base::Result<Value> apply_binary(BinaryOperator op, const Value& left, const Value& right,
                                 Budget& budget);

base::Result<Value> apply_unary(UnaryOperator op, const Value& operand);

/// int, float or bool as a double.
double to_double(const Value& value);

}  // namespace conclave::jinja
