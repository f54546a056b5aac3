// Filters of single values: strings, numbers, dicts, and anything to JSON.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "builtins.hpp"
#include "list_filters.hpp"
#include "operators.hpp"
#include "print.hpp"
#include "text.hpp"
#include "text_functions.hpp"

namespace conclave::jinja {
namespace {

using base::Result;

struct FilterRow {
  std::string_view name;
  FilterFunction function;
};

tl::unexpected<base::Error> wrong_type(std::string_view filter, const Value& value) {
  return broken(concat({"cannot apply the filter '", filter, "' to ", type_name(value)}));
}

Result<Value> safe(Interpreter&, const Value& value, const Arguments&) { return value; }

template <std::string (*Map)(std::string_view)>
Result<Value> map_text(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_string()) return wrong_type("upper, lower, title, capitalize", value);
  return in.make_text(Map(value.as_string()));
}

Result<Value> trim_filter(Interpreter& in, const Value& value, const Arguments& arguments) {
  if (!value.is_string()) return wrong_type("trim", value);
  return strip_text(in, value.as_string(), arguments, StripSides::kBoth);
}

Result<Value> replace(Interpreter& in, const Value& value, const Arguments& arguments) {
  if (!value.is_string()) return wrong_type("replace", value);
  return replace_text(in, value.as_string(), arguments);
}

/// Empty if the character stands for itself in HTML.
std::string_view html_entity(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&#34;";
    case '\'':
      return "&#39;";
    default:
      return {};
  }
}

Result<Value> escape(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_string()) return wrong_type("escape", value);
  std::string out;
  for (const char c : value.as_string()) {
    const std::string_view entity = html_entity(c);
    if (entity.empty()) {
      out.push_back(c);
    } else {
      out.append(entity);
    }
  }
  return in.make_text(std::move(out));
}

Result<Value> indent(Interpreter& in, const Value& value, const Arguments& arguments) {
  if (!value.is_string()) return wrong_type("indent", value);
  const Value* width = arguments.find(0, "width");
  const Value* first = arguments.find(1, "first");
  const Value* blank = arguments.find(2, "blank");
  if (width != nullptr && (!width->is_int() || width->as_int() < 0)) {
    return broken("the width of indent() must be a non-negative integer");
  }
  const bool indent_first = first != nullptr && first->truthy();
  const bool indent_blank = blank != nullptr && blank->truthy();
  const std::uint64_t spaces = width == nullptr ? 4 : static_cast<std::uint64_t>(width->as_int());
  CONCLAVE_TRY_VOID(in.budget().allocate(spaces));
  const std::string padding(spaces, ' ');

  std::string out;
  std::string_view rest = value.as_string();
  for (bool is_first = true;; is_first = false) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    if ((!is_first || indent_first) && (end > 0 || indent_blank)) {
      CONCLAVE_TRY_VOID(in.budget().allocate(spaces));
      out += padding;
    }
    out += rest.substr(0, end);
    if (end == rest.size()) break;
    out.push_back('\n');
    rest.remove_prefix(end + 1);
  }
  return in.make_text(std::move(out));
}

Result<Value> length(Interpreter& in, const Value& value, const Arguments&) {
  if (value.is_array()) return Value(value.as_array().size());
  if (value.is_object()) return Value(value.as_object().size());
  if (!value.is_string()) return wrong_type("length", value);
  CONCLAVE_TRY_VOID(in.budget().scan(value.as_string().size()));
  return Value(character_count(value.as_string()));
}

Result<Value> string(Interpreter& in, const Value& value, const Arguments&) {
  const bool printable =
      value.is_string() || value.is_number() || value.is_bool() || value.is_array();
  if (!printable) return wrong_type("string", value);
  std::string text;
  CONCLAVE_TRY_VOID(print({text, in.options().output_bytes_max, in.budget()}, value));
  return Value(std::move(text));
}

Result<Value> to_int(Interpreter&, const Value& value, const Arguments& arguments) {
  if (value.is_int()) return value;
  if (value.is_bool()) return Value(value.as_bool() ? 1 : 0);
  if (value.is_float()) {
    const double whole = std::floor(value.as_float());
    // 2^63 is exact as a double; the largest int64 is not.
    const bool fits = whole >= -9223372036854775808.0 && whole < 9223372036854775808.0;
    if (!fits) return broken("the float does not fit a 64-bit integer");
    return Value(static_cast<std::int64_t>(whole));
  }
  if (!value.is_string()) return wrong_type("int", value);
  const IntPrefix prefix = parse_int_prefix(value.as_string());
  if (prefix.overflow) return broken("the integer does not fit 64 bits");
  if (prefix.found) return Value(prefix.value);
  const Value* fallback = arguments.find(0, "default");
  return fallback == nullptr ? Value(0) : *fallback;
}

Result<Value> to_float(Interpreter&, const Value& value, const Arguments& arguments) {
  if (value.is_number() || value.is_bool()) return Value(to_double(value));
  if (!value.is_string()) return wrong_type("float", value);
  if (const auto parsed = parse_float_prefix(value.as_string())) return Value(*parsed);
  const Value* fallback = arguments.find(0, "default");
  return fallback == nullptr ? Value(0.0) : *fallback;
}

Result<Value> to_bool(Interpreter&, const Value& value, const Arguments&) {
  if (!value.is_bool()) return wrong_type("bool", value);
  return value;
}

Result<Value> absolute(Interpreter&, const Value& value, const Arguments&) {
  if (value.is_float()) return Value(std::fabs(value.as_float()));
  if (!value.is_int()) return wrong_type("abs", value);
  return value.as_int() < 0 ? apply_unary(UnaryOperator::kMinus, value) : value;
}

Result<Value> default_value(Interpreter&, const Value& value, const Arguments& arguments) {
  const Value* fallback = arguments.find(0, "default_value");
  const Value* boolean = arguments.find(1, "boolean");
  if (boolean != nullptr && !boolean->is_bool()) {
    return broken("the flag of default() must be a boolean");
  }
  const bool replaces_false = boolean != nullptr && boolean->as_bool();
  if (!value.is_undefined() && (!replaces_false || value.truthy())) return value;
  return fallback == nullptr ? Value("") : *fallback;
}

Result<bool> flag(const Arguments& arguments, std::string_view name) {
  const Value* value = arguments.keyword_value(name);
  if (value == nullptr) return false;
  if (!value->is_bool()) return broken(concat({"the argument '", name, "' must be a boolean"}));
  return value->as_bool();
}

// Wider than any screen; it keeps indentation from multiplying a small document.
constexpr std::int64_t kJsonIndentMax = 64;

Result<JsonStyle> json_style(const Arguments& arguments) {
  JsonStyle style;
  CONCLAVE_TRY(style.ascii, flag(arguments, "ensure_ascii"));
  CONCLAVE_TRY(style.sort_keys, flag(arguments, "sort_keys"));
  const Value* indent = arguments.keyword_value("indent");
  if (indent != nullptr && !indent->is_null()) {
    if (!indent->is_int() || indent->as_int() < 0 || indent->as_int() > kJsonIndentMax) {
      return broken("the indent of tojson() must be a small non-negative integer");
    }
    style.indent = static_cast<std::size_t>(indent->as_int());
    if (style.indent > 0) style.item_separator.resize(1);  // a new line follows the comma
  }
  const Value* separators = arguments.keyword_value("separators");
  if (separators != nullptr && !separators->is_null()) {
    const bool pair = separators->is_array() && separators->as_array().size() == 2 &&
                      separators->as_array()[0].is_string() &&
                      separators->as_array()[1].is_string();
    if (!pair) return broken("the separators of tojson() must be two strings");
    style.item_separator = separators->as_array()[0].as_string();
    style.key_separator = separators->as_array()[1].as_string();
  }
  return style;
}

Result<Value> tojson(Interpreter& in, const Value& value, const Arguments& arguments) {
  CONCLAVE_TRY(const JsonStyle style, json_style(arguments));
  std::string text;
  CONCLAVE_TRY_VOID(write_json({text, in.options().output_bytes_max, in.budget()}, value, style));
  return Value(std::move(text));
}

Result<Value> items(Interpreter& in, const Value& value, const Arguments&) {
  if (!value.is_object()) return wrong_type("items", value);
  return make_items(in, value.as_object());
}

/// keys, values and get: methods of dicts that the reference also takes as filters.
template <char First>
Result<Value> dict_method(Interpreter& in, const Value& value, const Arguments& arguments) {
  constexpr std::string_view kName = First == 'k' ? "keys" : First == 'v' ? "values" : "get";
  if (!value.is_object()) return wrong_type(kName, value);
  return find_method(value, kName).as_callable().call(in, nullptr, arguments);
}

constexpr FilterRow kFilters[] = {
    {"abs", absolute},
    {"bool", to_bool},
    {"capitalize", map_text<capitalize>},
    {"count", length},
    {"d", default_value},
    {"default", default_value},
    {"e", escape},
    {"escape", escape},
    {"float", to_float},
    {"get", dict_method<'g'>},
    {"indent", indent},
    {"int", to_int},
    {"items", items},
    {"keys", dict_method<'k'>},
    {"length", length},
    {"lower", map_text<to_lower>},
    {"replace", replace},
    {"safe", safe},
    {"string", string},
    {"title", map_text<title_case>},
    {"tojson", tojson},
    {"trim", trim_filter},
    {"upper", map_text<to_upper>},
    {"values", dict_method<'v'>},
};

}  // namespace

FilterFunction find_filter(std::string_view name) {
  for (const FilterRow& row : kFilters) {
    if (row.name == name) return row.function;
  }
  return find_list_filter(name);
}

}  // namespace conclave::jinja
