// The fields of a conversation. Their shapes are checked here, so that an error can name the field;
// what they mean to a model's template is the router's business.
#include <boost/json/serialize.hpp>

#include "json_writer.hpp"
#include "request_fields.hpp"

namespace conclave::gateway {

namespace json = boost::json;

namespace {

std::string at(std::string_view list, std::size_t index, std::string_view field = {}) {
  std::string param(list);
  param.append("[").append(std::to_string(index)).append("]");
  if (!field.empty()) param.append(".").append(field);
  return param;
}

const json::string* string_field(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains({name.data(), name.size()});
  return value == nullptr ? nullptr : value->if_string();
}

void check_part(JsonFields& fields, const json::value& part, const std::string& param) {
  const json::object* object = part.if_object();
  const json::string* type = object == nullptr ? nullptr : string_field(*object, "type");
  if (type == nullptr) {
    fields.fail(param, "A part of a message must be an object with a type", "invalid_type");
  } else if (*type != "text") {
    fields.fail(param + ".type",
                "Parts must be of type text: this server takes no images, sounds "
                "or files",
                "unsupported_value");
  } else if (string_field(*object, "text") == nullptr) {
    fields.fail(param + ".text", "A part of type text must have a string text", "invalid_type");
  }
}

void check_content(JsonFields& fields, const json::object& message, std::size_t index) {
  const json::value* content = message.if_contains("content");
  const bool absent = content == nullptr || content->is_null();
  if (absent) {
    // A call of tools, or what the model thought, is a message of its own.
    if (message.contains("tool_calls") || *string_field(message, "role") == "assistant") return;
    fields.fail(at("messages", index, "content"), "A message must have a content",
                "missing_required_parameter");
    return;
  }
  if (content->is_string()) return;
  const json::array* parts = content->if_array();
  if (parts == nullptr) {
    fields.fail(at("messages", index, "content"), "content must be a string or a list of parts",
                "invalid_type");
    return;
  }
  for (std::size_t i = 0; i < parts->size(); ++i) {
    check_part(fields, (*parts)[i], at(at("messages", index, "content"), i));
  }
}

void check_messages(JsonFields& fields, const json::array* messages) {
  if (messages == nullptr || messages->empty()) {
    fields.fail("messages", "messages must be a list of at least one message",
                messages == nullptr ? "missing_required_parameter" : "invalid_value");
    return;
  }
  for (std::size_t i = 0; i < messages->size() && fields.ok(); ++i) {
    const json::object* message = (*messages)[i].if_object();
    if (message == nullptr) {
      fields.fail(at("messages", i), "A message must be an object", "invalid_type");
    } else if (string_field(*message, "role") == nullptr) {
      fields.fail(at("messages", i, "role"), "A message must have a string role", "invalid_type");
    } else {
      check_content(fields, *message, i);
    }
  }
}

void check_tools(JsonFields& fields, const json::array& tools) {
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const json::object* tool = tools[i].if_object();
    const json::string* type = tool == nullptr ? nullptr : string_field(*tool, "type");
    if (type == nullptr || *type != "function") {
      fields.fail(at("tools", i), "A tool must be an object of type function", "invalid_type");
      return;
    }
    const json::value* function = tool->if_contains("function");
    const json::object* object = function == nullptr ? nullptr : function->if_object();
    if (object == nullptr || string_field(*object, "name") == nullptr) {
      fields.fail(at("tools", i, "function"), "A function must be an object with a name",
                  "invalid_type");
      return;
    }
  }
}

// `none`: the model shall not know of them.
bool wants_tools(JsonFields& fields) {
  const json::value* choice = fields.find("tool_choice");
  if (choice == nullptr) return true;
  if (choice->is_string()) {
    const json::string& text = choice->get_string();
    if (text == "auto") return true;
    if (text == "none") return false;
    if (text != "required") {
      fields.fail("tool_choice", "tool_choice must be none or auto");
      return false;
    }
  } else if (!choice->is_object()) {
    fields.fail("tool_choice", "tool_choice must be none or auto", "invalid_type");
    return false;
  }
  fields.fail("tool_choice",
              "This server cannot make a model call a tool: tool_choice must be none or auto",
              "unsupported_value");
  return false;
}

// Empty if there are none.
json::object template_kwargs(JsonFields& fields) {
  json::object kwargs;
  if (const json::object* given = fields.object("chat_template_kwargs")) kwargs = *given;
  // OpenAI's name for what templates (gpt-oss) read as a variable of the same name.
  if (const auto effort = fields.text("reasoning_effort")) {
    kwargs.emplace("reasoning_effort", *effort);  // one that is given there wins
  }
  return kwargs;
}

}  // namespace

std::string read_conversation(JsonFields& fields) {
  const json::array* messages = fields.array("messages");
  check_messages(fields, messages);
  const json::array* tools = fields.array("tools");
  if (tools != nullptr) check_tools(fields, *tools);
  if (!wants_tools(fields)) tools = nullptr;
  const json::array* documents = fields.array("documents");
  const json::object kwargs = template_kwargs(fields);
  const bool generation_prompt = fields.boolean("add_generation_prompt", true);
  if (!fields.ok()) return {};

  std::string text;
  JsonWriter writer(text);
  writer.begin_object().key("messages").raw(json::serialize(*messages));
  if (tools != nullptr) writer.key("tools").raw(json::serialize(*tools));
  if (documents != nullptr) writer.key("documents").raw(json::serialize(*documents));
  if (!kwargs.empty()) writer.key("chat_template_kwargs").raw(json::serialize(kwargs));
  if (!generation_prompt) writer.key("add_generation_prompt").boolean(false);
  writer.end_object();
  return text;
}

}  // namespace conclave::gateway
