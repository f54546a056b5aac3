#include "messages.hpp"

#include <string>
#include <string_view>

#include "conclave/jinja/json.hpp"

namespace conclave::chat {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::Result;
using jinja::Value;

tl::unexpected<base::Error> wrong(std::string message) {
  return base::fail(ErrorCode::kInvalidArgument, std::move(message));
}

/// Runs `convert` over the elements, with `name[i]` before the message of an error.
template <class Convert>
Result<jinja::Array> convert_all(std::string_view name, const json::array& items, Convert convert) {
  jinja::Array converted;
  converted.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    Result<Value> value = convert(items[i]);
    if (!value) {
      std::string place(name);
      place.append("[").append(std::to_string(i)).append("]");
      return base::fail(value.error().within(place));
    }
    converted.push_back(std::move(*value));
  }
  return converted;
}

Result<Value> convert_part(const json::value& part) {
  const json::object* object = part.if_object();
  const json::value* type = object == nullptr ? nullptr : object->if_contains("type");
  if (type == nullptr || !type->is_string()) return wrong("a part is an object with a type");
  if (type->get_string() != "text") {
    std::string message = "parts of type '";
    message.append(type->get_string()).append("' are not supported, only text");
    return wrong(std::move(message));
  }
  const json::value* text = object->if_contains("text");
  if (text == nullptr || !text->is_string()) return wrong("a text part has a string text");
  return jinja::from_json(part);
}

Result<Value> convert_content(const json::value& content, const ContentRules& rules) {
  if (content.is_string()) {
    CONCLAVE_TRY(Value text, jinja::from_json(content));
    if (rules.shape != ContentRules::Shape::kParts) return text;
    return Value(jinja::Array{jinja::Object{{"type", "text"}, {"text", std::move(text)}}});
  }
  if (content.is_null()) return rules.keep_null ? Value(nullptr) : Value("");
  if (!content.is_array()) return wrong("content is a string, null or a list of parts");
  CONCLAVE_TRY(jinja::Array parts, convert_all("content", content.get_array(), convert_part));
  if (rules.shape != ContentRules::Shape::kText) return Value(std::move(parts));
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text.push_back('\n');
    text += parts[i].as_object().find("text")->as_string();
  }
  return Value(std::move(text));
}

/// The same object with another value at `key`.
Value with(const jinja::Object& object, std::string_view key, Value value) {
  jinja::Object copy = object;
  copy.set(std::string(key), std::move(value));
  return copy;
}

/// A tool call whose `function.arguments` is an object where the client sent its text.
Result<Value> convert_tool_call(const json::value& call) {
  CONCLAVE_TRY(Value converted, jinja::from_json(call));
  if (!converted.is_object()) return wrong("a tool call is an object");
  const Value* function = converted.as_object().find("function");
  if (function == nullptr || !function->is_object()) return converted;
  const Value* arguments = function->as_object().find("arguments");
  if (arguments == nullptr || !arguments->is_string()) return converted;
  const bool empty = arguments->as_string().empty();
  const Result<Value> parsed = jinja::parse_json(empty ? "{}" : arguments->as_string());
  // A model may have called a tool with arguments that are not JSON: the template prints the text.
  if (!parsed || !parsed->is_object()) return converted;
  return with(converted.as_object(), "function", with(function->as_object(), "arguments", *parsed));
}

Result<Value> convert_message(const json::value& message, const ContentRules& rules) {
  const json::object* object = message.if_object();
  if (object == nullptr) return wrong("a message is an object");
  const json::value* role = object->if_contains("role");
  if (role == nullptr || !role->is_string()) return wrong("a message has a string role");

  jinja::Object converted;
  for (const auto& [key, value] : *object) {
    std::string name(key);
    if (name == "content") {
      CONCLAVE_TRY(Value content, convert_content(value, rules));
      converted.set(std::move(name), std::move(content));
    } else if (name == "tool_calls") {
      // Templates ask whether the key is there and not whether it says anything.
      const bool calls = value.is_array() && !value.get_array().empty();
      if (!calls && !value.is_null() && !value.is_array()) return wrong("tool_calls is a list");
      if (!calls) continue;
      CONCLAVE_TRY(jinja::Array list,
                   convert_all("tool_calls", value.get_array(), convert_tool_call));
      converted.set(std::move(name), std::move(list));
    } else {
      CONCLAVE_TRY(Value other, jinja::from_json(value));
      converted.set(std::move(name), std::move(other));
    }
  }
  const bool silent_call = converted.contains("tool_calls") && !converted.contains("content");
  if (silent_call) converted.set("content", rules.keep_null ? Value(nullptr) : Value(""));
  return Value(std::move(converted));
}

}  // namespace

Result<Value> template_messages(const json::array& messages, const ContentRules& rules) {
  CONCLAVE_TRY(jinja::Array converted,
               convert_all("messages", messages, [&](const json::value& message) {
                 return convert_message(message, rules);
               }));
  return Value(std::move(converted));
}

}  // namespace conclave::chat
