// Attributes and methods of strings, lists and dicts.
#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "builtins.hpp"
#include "namespace.hpp"
#include "operators.hpp"
#include "text.hpp"
#include "text_functions.hpp"

namespace conclave::jinja {
namespace {

using base::Result;
using base::Status;

using Method = Result<Value> (*)(Interpreter&, const Value& receiver, const Arguments&);

struct MethodRow {
  std::string_view name;
  Method method;
};

Result<Value> upper(Interpreter& in, const Value& self, const Arguments&) {
  return in.make_text(to_upper(self.as_string()));
}
Result<Value> lower(Interpreter& in, const Value& self, const Arguments&) {
  return in.make_text(to_lower(self.as_string()));
}
Result<Value> title(Interpreter& in, const Value& self, const Arguments&) {
  return in.make_text(title_case(self.as_string()));
}
Result<Value> capitalize_method(Interpreter& in, const Value& self, const Arguments&) {
  return in.make_text(capitalize(self.as_string()));
}
Result<Value> strip(Interpreter& in, const Value& self, const Arguments& arguments) {
  return strip_text(in, self.as_string(), arguments, StripSides::kBoth);
}
Result<Value> lstrip(Interpreter& in, const Value& self, const Arguments& arguments) {
  return strip_text(in, self.as_string(), arguments, StripSides::kLeft);
}
Result<Value> rstrip(Interpreter& in, const Value& self, const Arguments& arguments) {
  return strip_text(in, self.as_string(), arguments, StripSides::kRight);
}

/// True if `matches` holds for the argument, or for one of a list of arguments.
template <class Matches>
Result<Value> match_any(std::string_view method, const Arguments& arguments, Matches matches) {
  const Value* pattern = arguments.find(0, "prefix");
  if (pattern == nullptr) return broken(concat({method, "() needs an argument"}));
  if (pattern->is_string()) return Value(matches(pattern->as_string()));
  if (!pattern->is_array()) return broken(concat({method, "() needs a string or a list of them"}));
  for (const Value& item : pattern->as_array()) {
    if (!item.is_string()) return broken(concat({method, "() needs a string or a list of them"}));
    if (matches(item.as_string())) return Value(true);
  }
  return Value(false);
}

Result<Value> startswith(Interpreter&, const Value& self, const Arguments& arguments) {
  return match_any("startswith", arguments,
                   [&](const std::string& prefix) { return self.as_string().starts_with(prefix); });
}

Result<Value> endswith(Interpreter&, const Value& self, const Arguments& arguments) {
  return match_any("endswith", arguments,
                   [&](const std::string& suffix) { return self.as_string().ends_with(suffix); });
}

Result<Value> split(Interpreter& in, const Value& self, const Arguments& arguments) {
  return split_text(in, self.as_string(), arguments);
}
Result<Value> replace(Interpreter& in, const Value& self, const Arguments& arguments) {
  return replace_text(in, self.as_string(), arguments);
}

Result<Value> splitlines(Interpreter& in, const Value& self, const Arguments&) {
  Array lines;
  std::string_view rest = self.as_string();
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find_first_of("\r\n"), rest.size());
    CONCLAVE_TRY(Value line, in.make_text(std::string(rest.substr(0, end))));
    lines.push_back(std::move(line));
    rest.remove_prefix(end);
    rest.remove_prefix(rest.starts_with("\r\n") ? 2 : std::min<std::size_t>(rest.size(), 1));
  }
  return in.make_list(std::move(lines));
}

Result<std::string_view> needle(const Arguments& arguments) {
  const Value* value = arguments.find(0, "sub");
  if (value == nullptr || !value->is_string()) return broken("the method needs a string");
  return std::string_view(value->as_string());
}

Value character_index(const std::string& text, std::size_t byte) {
  if (byte == std::string::npos) return -1;
  return character_count(std::string_view(text).substr(0, byte));
}

Result<Value> find(Interpreter& in, const Value& self, const Arguments& arguments) {
  CONCLAVE_TRY(const std::string_view sub, needle(arguments));
  CONCLAVE_TRY_VOID(in.budget().scan(self.as_string().size()));
  return character_index(self.as_string(), find_text(self.as_string(), sub));
}

Result<Value> count(Interpreter& in, const Value& self, const Arguments& arguments) {
  CONCLAVE_TRY(const std::string_view sub, needle(arguments));
  CONCLAVE_TRY_VOID(in.budget().scan(self.as_string().size()));
  if (sub.empty()) return Value(character_count(self.as_string()) + 1);
  std::size_t found = 0;
  std::size_t at = find_text(self.as_string(), sub);
  while (at != std::string::npos) {
    ++found;
    at = find_text(self.as_string(), sub, at + sub.size());
  }
  return Value(found);
}

Result<Value> removeprefix(Interpreter& in, const Value& self, const Arguments& arguments) {
  CONCLAVE_TRY(const std::string_view prefix, needle(arguments));
  if (!self.as_string().starts_with(prefix)) return self;
  return in.make_text(self.as_string().substr(prefix.size()));
}

Result<Value> removesuffix(Interpreter& in, const Value& self, const Arguments& arguments) {
  CONCLAVE_TRY(const std::string_view suffix, needle(arguments));
  if (!self.as_string().ends_with(suffix)) return self;
  return in.make_text(self.as_string().substr(0, self.as_string().size() - suffix.size()));
}

Result<Value> isdigit(Interpreter& in, const Value& self, const Arguments&) {
  CONCLAVE_TRY_VOID(in.budget().scan(self.as_string().size()));
  const bool digits = std::all_of(self.as_string().begin(), self.as_string().end(),
                                  [](char c) { return c >= '0' && c <= '9'; });
  return Value(digits && !self.as_string().empty());
}

/// `", ".join(items)`: the filter with its two sides exchanged.
Result<Value> join(Interpreter& in, const Value& self, const Arguments& arguments) {
  const Value* items = arguments.find(0, "iterable");
  if (items == nullptr) return broken("join() needs a list");
  Arguments swapped;
  swapped.positional.push_back(self);
  return find_filter("join")(in, *items, swapped);
}

constexpr MethodRow kStringMethods[] = {
    {"upper", upper},
    {"lower", lower},
    {"title", title},
    {"capitalize", capitalize_method},
    {"strip", strip},
    {"lstrip", lstrip},
    {"rstrip", rstrip},
    {"startswith", startswith},
    {"endswith", endswith},
    {"split", split},
    {"splitlines", splitlines},
    {"replace", replace},
    {"find", find},
    {"count", count},
    {"removeprefix", removeprefix},
    {"removesuffix", removesuffix},
    {"isdigit", isdigit},
    {"join", join},
};

Result<Value> get(Interpreter&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.positional[0].is_string()) {
    return broken("get() needs a string as key");
  }
  if (!arguments.keyword.empty()) return broken("get() takes no keyword arguments");
  if (const Value* found = self.as_object().find(arguments.positional[0].as_string())) {
    return *found;
  }
  return arguments.positional.size() > 1 ? arguments.positional[1] : Value(nullptr);
}

Result<Value> items(Interpreter& in, const Value& self, const Arguments&) {
  return make_items(in, self.as_object());
}

Result<Value> keys(Interpreter& in, const Value& self, const Arguments&) {
  Array list;
  for (const auto& [key, value] : self.as_object().entries()) {
    CONCLAVE_TRY(Value text, in.make_text(key));
    list.push_back(std::move(text));
  }
  return in.make_list(std::move(list));
}

Result<Value> values(Interpreter& in, const Value& self, const Arguments&) {
  Array list;
  for (const auto& [key, value] : self.as_object().entries()) list.push_back(value);
  return in.make_list(std::move(list));
}

Result<Value> dictsort(Interpreter& in, const Value& self, const Arguments& arguments) {
  return find_filter("dictsort")(in, self, arguments);
}

constexpr MethodRow kDictMethods[] = {
    {"get", get}, {"items", items}, {"keys", keys}, {"values", values}, {"dictsort", dictsort},
};

template <std::size_t Count>
Value bind(const MethodRow (&rows)[Count], const Value& receiver, std::string_view name) {
  for (const MethodRow& row : rows) {
    if (row.name != name) continue;
    return make_callable([receiver, method = row.method](Interpreter& in, const EnvironmentPtr&,
                                                         const Arguments& arguments) {
      return method(in, receiver, arguments);
    });
  }
  return {};
}

Value item_at(const Array& items, std::int64_t index) {
  const auto size = static_cast<std::int64_t>(items.size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? Value() : items[static_cast<std::size_t>(index)];
}

const Object* entries_of(const Value& value) {
  if (value.is_object()) return &value.as_object();
  if (value.is_namespace()) return &value.as_namespace().entries;
  return nullptr;
}

}  // namespace

Value find_method(const Value& receiver, std::string_view name) {
  if (receiver.is_string()) {
    if (name == "length") return character_count(receiver.as_string());
    return bind(kStringMethods, receiver, name);
  }
  if (receiver.is_array() && name == "length") return receiver.as_array().size();
  if (receiver.is_object()) return bind(kDictMethods, receiver, name);
  return {};
}

Result<Value> get_member(const Value& object, const Value& key) {
  if (object.is_array() && key.is_int()) return item_at(object.as_array(), key.as_int());
  if (object.is_string() && key.is_int()) {
    const std::string_view character = character_at(object.as_string(), key.as_int());
    return character.empty() ? Value() : Value(character);
  }
  if (!key.is_string()) {
    return broken(concat({"cannot take the element ", type_name(key), " of ", type_name(object)}));
  }
  if (const Object* entries = entries_of(object)) {
    if (const Value* found = entries->find(key.as_string())) return *found;
  }
  return find_method(object, key.as_string());
}

Value get_path(const Value& item, std::string_view path) {
  Value value = item;
  while (true) {
    const std::size_t dot = std::min(path.find('.'), path.size());
    const std::string_view part = path.substr(0, dot);
    if (const Object* entries = entries_of(value)) {
      const Value* found = entries->find(part);
      // Copied before the old value goes: it may own the new one.
      Value next = found == nullptr ? Value() : *found;
      value = std::move(next);
    } else if (value.is_array()) {
      const IntPrefix index = parse_int_prefix(part);
      if (!index.found || index.overflow || index.value < 0) return {};
      Value next = item_at(value.as_array(), index.value);
      value = std::move(next);
    } else {
      return {};
    }
    if (dot == path.size()) return value;
    path.remove_prefix(dot + 1);
  }
}

Result<Value> make_items(Interpreter& in, const Object& object) {
  Array pairs;
  for (const auto& [key, value] : object.entries()) {
    CONCLAVE_TRY(Value text, in.make_text(key));
    CONCLAVE_TRY(Value pair, in.make_list({std::move(text), value}));
    pairs.push_back(std::move(pair));
  }
  return in.make_list(std::move(pairs));
}

}  // namespace conclave::jinja
