// The names a template finds without defining them.
#pragma once

#include <string_view>

#include "callable.hpp"
#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"
#include "environment.hpp"
#include "interpreter.hpp"

namespace conclave::jinja {

using FilterFunction = base::Result<Value> (*)(Interpreter&, const Value& operand,
                                               const Arguments&);
using TestFunction = base::Result<bool> (*)(Interpreter&, const Value& operand, const Arguments&);

/// nullptr if there is no such filter or test.
FilterFunction find_filter(std::string_view name);
TestFunction find_test(std::string_view name);

/// A method (bound, callable) or property of a string, list or dict; undefined if it has none of
/// that name.
Value find_method(const Value& receiver, std::string_view name);

/// `object.key` and `object[key]`.
base::Result<Value> get_member(const Value& object, const Value& key);

/// "details.priority" inside dicts, namespaces and lists; undefined where the path ends early.
Value get_path(const Value& item, std::string_view path);

/// Dict entries as [key, value] lists.
base::Result<Value> make_items(Interpreter& interpreter, const Object& object);

/// range, namespace, raise_exception, strftime_now, dict and the constants.
void define_globals(Environment& environment);

}  // namespace conclave::jinja
