// The functions and constants that every template starts with.
#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <string>

#include "builtins.hpp"
#include "operators.hpp"
#include "print.hpp"
#include "strftime.hpp"
#include "text.hpp"

namespace conclave::jinja {

const Value* Arguments::keyword_value(std::string_view name) const {
  for (const auto& [key, value] : keyword) {
    if (key == name) return &value;
  }
  return nullptr;
}

const Value* Arguments::find(std::size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  return keyword_value(name);
}

namespace {

using base::Result;
using base::Status;

Result<Value> raise_exception(Interpreter& in, const EnvironmentPtr&, Arguments arguments) {
  std::string message;
  const Value* reason = arguments.find(0, "message");
  if (reason != nullptr && !reason->is_null() && !reason->is_undefined()) {
    CONCLAVE_TRY(message, operand_text(*reason, in.budget()));
  }
  return base::fail(base::ErrorCode::kInvalidArgument, std::move(message));
}

Result<Value> range(Interpreter& in, const EnvironmentPtr&, Arguments arguments) {
  const std::size_t count = arguments.positional.size();
  if (count < 1 || count > 3) return broken("range() takes one to three integers");
  std::array<std::int64_t, 3> given = {0, 0, 1};
  for (std::size_t i = 0; i < count; ++i) {
    if (!arguments.positional[i].is_int()) return broken("range() takes one to three integers");
    given[i] = arguments.positional[i].as_int();
  }
  if (count == 1) std::swap(given[0], given[1]);
  const auto [start, stop, step] = given;
  if (step == 0) return broken("the step of range() is zero");

  // Unsigned, because the distance between two 64-bit integers may not fit a signed one.
  const bool empty = step > 0 ? start >= stop : start <= stop;
  const auto distance = step > 0
                            ? static_cast<std::uint64_t>(stop) - static_cast<std::uint64_t>(start)
                            : static_cast<std::uint64_t>(start) - static_cast<std::uint64_t>(stop);
  const auto stride =
      step > 0 ? static_cast<std::uint64_t>(step) : 0 - static_cast<std::uint64_t>(step);
  const std::uint64_t size = empty ? 0 : (distance - 1) / stride + 1;
  if (size > std::numeric_limits<std::uint64_t>::max() / sizeof(Value)) {
    return base::fail(base::ErrorCode::kOverloaded, "range() is too long");
  }
  CONCLAVE_TRY_VOID(in.budget().allocate(size * sizeof(Value)));
  Array items;
  items.reserve(size);
  for (std::uint64_t i = 0; i < size; ++i) {
    items.emplace_back(static_cast<std::int64_t>(static_cast<std::uint64_t>(start) +
                                                 i * static_cast<std::uint64_t>(step)));
  }
  return Value(std::move(items));
}

Status add_pair(Object& entries, const Value& pair) {
  if (pair.is_string()) {
    const std::vector<std::size_t> starts = character_offsets(pair.as_string());
    if (starts.size() == 3) {
      entries.set(pair.as_string().substr(0, starts[1]), pair.as_string().substr(starts[1]));
      return {};
    }
  }
  const bool usable =
      pair.is_array() && pair.as_array().size() == 2 && pair.as_array()[0].is_string();
  if (!usable) return broken("expected a dict or a list of [key, value]");
  entries.set(pair.as_array()[0].as_string(), pair.as_array()[1]);
  return {};
}

/// The arguments of namespace() and dict(): one mapping or list of pairs, then keywords.
Result<Object> entries_from(Interpreter& in, const Arguments& arguments) {
  if (arguments.positional.size() > 1) return broken("expected at most one positional argument");
  Object entries;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (source.is_object()) {
      entries = source.as_object();
    } else if (source.is_array()) {
      for (const Value& pair : source.as_array()) CONCLAVE_TRY_VOID(add_pair(entries, pair));
    } else {
      return broken(concat({type_name(source), " is not a dict"}));
    }
  }
  for (const auto& [name, value] : arguments.keyword) entries.set(name, value);
  CONCLAVE_TRY_VOID(in.budget().allocate(entries.size() * sizeof(Object::Entry)));
  return entries;
}

Result<Value> make_namespace(Interpreter& in, const EnvironmentPtr&, Arguments arguments) {
  CONCLAVE_TRY(Object entries, entries_from(in, arguments));
  return in.make_namespace(std::move(entries));
}

Result<Value> make_dict(Interpreter& in, const EnvironmentPtr&, Arguments arguments) {
  CONCLAVE_TRY(Object entries, entries_from(in, arguments));
  return in.make_object(std::move(entries));
}

Result<Value> strftime_now(Interpreter& in, const EnvironmentPtr&, Arguments arguments) {
  const Value* format = arguments.find(0, "format");
  if (format == nullptr || !format->is_string()) return broken("strftime_now() needs a format");
  return in.make_text(format_time(in.options().now, format->as_string()));
}

constexpr std::array<std::string_view, 10> kReserved = {
    "namespace", "true",  "false",           "none",        "True", "False",
    "None",      "range", "raise_exception", "strftime_now"};

}  // namespace

void define_globals(Environment& environment) {
  for (const std::string_view name : {"true", "True"}) environment.set(name, true);
  for (const std::string_view name : {"false", "False"}) environment.set(name, false);
  for (const std::string_view name : {"none", "None"}) environment.set(name, nullptr);
  environment.set("raise_exception", make_callable(raise_exception));
  environment.set("range", make_callable(range));
  environment.set("namespace", make_callable(make_namespace));
  environment.set("dict", make_callable(make_dict));
  environment.set("strftime_now", make_callable(strftime_now));
}

bool is_builtin_name(std::string_view name) {
  return std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

}  // namespace conclave::jinja
