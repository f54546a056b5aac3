#include "list_filters.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "namespace.hpp"
#include "operators.hpp"
#include "print.hpp"
#include "sorting.hpp"
#include "text.hpp"

namespace conclave::jinja {
namespace {

using base::Result;
using base::Status;

struct FilterRow {
  std::string_view name;
  FilterFunction function;
};

tl::unexpected<base::Error> wrong_type(std::string_view filter, const Value& value) {
  return broken(concat({"cannot apply the filter '", filter, "' to ", type_name(value)}));
}

Result<Value> list(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_array()) return wrong_type("list", value);
  return value.is_tuple() ? in.make_list(value.as_array()) : value;
}

Result<Value> first(Interpreter&, const Value& value, const Arguments&) {
  if (!value.is_array()) return wrong_type("first", value);
  return value.as_array().empty() ? Value() : value.as_array().front();
}

Result<Value> last(Interpreter&, const Value& value, const Arguments&) {
  if (!value.is_array()) return wrong_type("last", value);
  return value.as_array().empty() ? Value() : value.as_array().back();
}

Result<Value> reverse(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_array()) return wrong_type("reverse", value);
  Array items = value.as_array();
  std::reverse(items.begin(), items.end());
  return in.make_list(std::move(items));
}

/// A list as it is, a string as its characters.
Result<Array> joinable(Interpreter& in, const Value& value) {
  if (value.is_array()) return value.as_array();
  if (!value.is_string()) return wrong_type("join", value);
  const std::string& text = value.as_string();
  CONCLAVE_TRY_VOID(in.budget().allocate(text.size() * (sizeof(Value) + sizeof(std::string))));
  const std::vector<std::size_t> starts = character_offsets(text);
  Array characters;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    characters.emplace_back(text.substr(starts[i], starts[i + 1] - starts[i]));
  }
  return characters;
}

Result<Value> join(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const Array items, joinable(in, value));
  const Value* separator = arguments.find(0, "separator");
  if (separator == nullptr) separator = arguments.keyword_value("d");
  if (separator != nullptr && !separator->is_string()) {
    return broken("the separator of join() must be a string");
  }
  std::string_view between;
  if (separator != nullptr) between = separator->as_string();
  const Value* attribute = arguments.find(1, "attribute");
  std::string out;
  const TextSink sink{out, in.options().output_bytes_max, in.budget()};
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) CONCLAVE_TRY_VOID(sink.append(between));
    const bool by_path = attribute != nullptr && attribute->is_string();
    if (by_path) CONCLAVE_TRY_VOID(in.budget().scan(*attribute));
    const Value item = by_path ? get_path(items[i], attribute->as_string()) : items[i];
    if (item.is_null() || item.is_undefined()) continue;
    CONCLAVE_TRY(const std::string text, operand_text(item, in.budget()));
    CONCLAVE_TRY_VOID(sink.append(text));
  }
  return Value(std::move(out));
}

Result<Value> unique(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_array()) return wrong_type("unique", value);
  Array kept;
  for (const Value& item : value.as_array()) {
    bool seen = false;
    for (std::size_t i = 0; i < kept.size() && !seen; ++i) {
      CONCLAVE_TRY(seen, strictly_equal(kept[i], item, in.budget()));
    }
    if (!seen) kept.push_back(item);
  }
  return in.make_list(std::move(kept));
}

/// Flags and attribute of sort(), in the order that Python gives them.
Result<SortOrder> sort_order(const Arguments& arguments) {
  SortOrder order;
  const Value* reversed = arguments.find(0, "reverse");
  const Value* case_sensitive = arguments.find(1, "case_sensitive");
  const Value* attribute = arguments.find(2, "attribute");
  for (const Value* flag : {reversed, case_sensitive}) {
    if (flag != nullptr && !flag->is_bool()) return broken("the flags of sort() must be booleans");
  }
  order.reverse = reversed != nullptr && reversed->as_bool();
  order.case_sensitive = case_sensitive != nullptr && case_sensitive->as_bool();
  if (attribute != nullptr && attribute->is_int()) {
    order.attribute = std::to_string(attribute->as_int());
  } else if (attribute != nullptr && attribute->is_string()) {
    order.attribute = attribute->as_string();
  } else if (attribute != nullptr && !attribute->is_null()) {
    return broken("the attribute of sort() must be a string or an integer");
  }
  return order;
}

Result<Value> sort(Interpreter& in, const Value& value, const Arguments& arguments) {
  if (!value.is_array()) return wrong_type("sort", value);
  CONCLAVE_TRY(const SortOrder order, sort_order(arguments));
  CONCLAVE_TRY(Array items, sorted(value.as_array(), order, in.budget()));
  return in.make_list(std::move(items));
}

Result<Value> dictsort(Interpreter& in, const Value& value, const Arguments& arguments) {
  if (!value.is_object()) return wrong_type("dictsort", value);
  const Value* case_sensitive = arguments.find(0, "case_sensitive");
  const Value* by = arguments.find(1, "by");
  const Value* reversed = arguments.find(2, "reverse");
  for (const Value* flag : {reversed, case_sensitive}) {
    if (flag != nullptr && !flag->is_bool()) {
      return broken("the flags of dictsort() must be booleans");
    }
  }
  SortOrder order;
  order.reverse = reversed != nullptr && reversed->as_bool();
  order.case_sensitive = case_sensitive != nullptr && case_sensitive->as_bool();
  order.attribute = "0";
  if (by != nullptr) {
    const bool known = by->is_string() && (by->as_string() == "key" || by->as_string() == "value");
    if (!known) return broken("dictsort() sorts by 'key' or 'value'");
    if (by->as_string() == "value") order.attribute = "1";
  }
  CONCLAVE_TRY(const Value pairs, make_items(in, value.as_object()));
  CONCLAVE_TRY(Array items, sorted(pairs.as_array(), order, in.budget()));
  return in.make_list(std::move(items));
}

/// A condition on elements: a named test with arguments, or plain truth.
class Condition {
 public:
  /// The test's name is the positional argument `index`, its arguments follow.
  static Result<Condition> from(const Arguments& arguments, std::size_t index) {
    Condition condition;
    if (index >= arguments.positional.size()) return condition;
    const Value& name = arguments.positional[index];
    if (!name.is_string()) return broken("the name of a test must be a string");
    condition.test_ = find_test(name.as_string());
    if (condition.test_ == nullptr) {
      return broken(concat({"unknown test '", name.as_string(), "'"}));
    }
    condition.arguments_.positional.assign(
        arguments.positional.begin() + static_cast<std::ptrdiff_t>(index) + 1,
        arguments.positional.end());
    return condition;
  }

  [[nodiscard]] Result<bool> holds(Interpreter& in, const Value& value) const {
    CONCLAVE_TRY_VOID(in.budget().step());
    CONCLAVE_TRY_VOID(in.budget().scan(value));
    if (test_ == nullptr) return value.truthy();
    return test_(in, value, arguments_);
  }

 private:
  TestFunction test_ = nullptr;
  Arguments arguments_;
};

template <bool Keep>
Result<Value> select(Interpreter& in, const Value& value, const Arguments& arguments) {
  if (!value.is_array()) return wrong_type(Keep ? "select" : "reject", value);
  CONCLAVE_TRY(const Condition condition, Condition::from(arguments, 0));
  Array kept;
  for (const Value& item : value.as_array()) {
    CONCLAVE_TRY(const bool holds, condition.holds(in, item));
    if (holds == Keep) kept.push_back(item);
  }
  return in.make_list(std::move(kept));
}

bool has_attributes(const Value& value) { return value.is_object() || value.is_namespace(); }

template <bool Keep>
Result<Value> select_attribute(Interpreter& in, const Value& value, const Arguments& arguments) {
  constexpr std::string_view kName = Keep ? "selectattr" : "rejectattr";
  if (!value.is_array()) return wrong_type(kName, value);
  if (arguments.positional.empty() || !arguments.positional[0].is_string()) {
    return broken(concat({kName, "() needs the name of an attribute"}));
  }
  CONCLAVE_TRY(const Condition condition, Condition::from(arguments, 1));
  Array kept;
  for (const Value& item : value.as_array()) {
    if (!has_attributes(item)) {
      return broken(concat({kName, "() needs dicts, not ", type_name(item)}));
    }
    CONCLAVE_TRY_VOID(in.budget().scan(arguments.positional[0]));
    const Value attribute = get_path(item, arguments.positional[0].as_string());
    bool holds = false;
    if (!attribute.is_undefined()) {
      CONCLAVE_TRY(holds, condition.holds(in, attribute));
    }
    if (holds == Keep) kept.push_back(item);
  }
  return in.make_list(std::move(kept));
}

Result<Value> map_attribute(Interpreter& in, const Array& items, const Arguments& arguments) {
  const Value* attribute = arguments.keyword_value("attribute");
  if (!attribute->is_string()) return broken("the attribute of map() must be a string");
  const Value* fallback = arguments.keyword_value("default");
  Array mapped;
  for (const Value& item : items) {
    if (!has_attributes(item)) return broken(concat({"map() needs dicts, not ", type_name(item)}));
    CONCLAVE_TRY_VOID(in.budget().scan(*attribute));
    Value found = get_path(item, attribute->as_string());
    if (found.is_undefined() && fallback != nullptr) found = *fallback;
    mapped.push_back(std::move(found));
  }
  return in.make_list(std::move(mapped));
}

Result<Value> map(Interpreter& in, const Value& value, const Arguments& arguments) {
  if (!value.is_array()) return wrong_type("map", value);
  const Array& items = value.as_array();
  if (arguments.keyword_value("attribute") != nullptr) return map_attribute(in, items, arguments);
  if (arguments.positional.empty() || !arguments.positional[0].is_string()) {
    return broken("map() needs an attribute or the name of a filter");
  }
  const std::string& name = arguments.positional[0].as_string();
  const FilterFunction filter = find_filter(name);
  if (filter == nullptr) return broken(concat({"unknown filter '", name, "'"}));
  // A filter inside a filter would nest without bound, and no template needs it.
  if (filter == &map) return broken("map() cannot map itself");
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
  rest.keyword = arguments.keyword;
  Array mapped;
  for (const Value& item : items) {
    CONCLAVE_TRY_VOID(in.budget().step());
    CONCLAVE_TRY_VOID(in.budget().scan(item));
    CONCLAVE_TRY(Value result, filter(in, item, rest));
    mapped.push_back(std::move(result));
  }
  return in.make_list(std::move(mapped));
}

constexpr FilterRow kFilters[] = {
    {"dictsort", dictsort},
    {"first", first},
    {"join", join},
    {"last", last},
    {"list", list},
    {"map", map},
    {"reject", select<false>},
    {"rejectattr", select_attribute<false>},
    {"reverse", reverse},
    {"select", select<true>},
    {"selectattr", select_attribute<true>},
    {"sort", sort},
    {"unique", unique},
};

}  // namespace

FilterFunction find_list_filter(std::string_view name) {
  for (const FilterRow& row : kFilters) {
    if (row.name == name) return row.function;
  }
  return nullptr;
}

}  // namespace conclave::jinja
