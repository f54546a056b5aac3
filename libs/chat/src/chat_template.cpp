#include "conclave/chat/chat_template.hpp"

#include <utility>

#include "conclave/jinja/json.hpp"
#include "conclave/jinja/template.hpp"
#include "messages.hpp"

namespace conclave::chat {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using base::Result;
using base::Status;
using jinja::Value;

// Unlikely to be in a template, and nothing that a template would trim or escape.
constexpr std::string_view kNeedle = "xq7needle";

constexpr const char* kKey = "tokenizer.chat_template";
constexpr const char* kDefaultName = "default";
constexpr const char* kToolName = "tool_use";

/// A list for the template, or none: templates test `tools is not none`, because that is what the
/// training tools pass when there are no tools.
Result<Value> list_or_none(std::string_view name, const json::array& items) {
  if (items.empty()) return Value(nullptr);
  jinja::Array list;
  for (const json::value& item : items) {
    Result<Value> value = jinja::from_json(item);
    if (!value) return base::fail(value.error().within(name));
    list.push_back(std::move(*value));
  }
  return Value(std::move(list));
}

Status add_kwargs(jinja::Object& context, const json::object& kwargs) {
  for (const auto& [key, item] : kwargs) {
    std::string name(key);
    if (context.contains(name) || jinja::is_builtin_name(name)) {
      std::string message = "the template variable '";
      message.append(name).append("' is set by the request itself");
      return base::fail(ErrorCode::kInvalidArgument, std::move(message));
    }
    CONCLAVE_TRY(Value value, jinja::from_json(item));
    context.set(std::move(name), std::move(value));
  }
  return {};
}

/// As small a conversation as has a tool call; some templates need its result to follow.
json::array tool_call_probe(json::value content) {
  const json::object call = {
      {"id", "call00001"},
      {"type", "function"},
      {"function", {{"name", "probe"}, {"arguments", json::object{{"a", 1}}}}}};
  return {{{"role", "user"}, {"content", "probe"}},
          {{"role", "assistant"}, {"content", std::move(content)}, {"tool_calls", {call}}},
          {{"role", "tool"}, {"tool_call_id", "call00001"}, {"content", "probe"}}};
}

}  // namespace

struct ChatTemplate::Variant {
  jinja::Template program;
  ContentRules rules;
};

Result<ChatTemplate> ChatTemplate::from_source(std::string_view source, SpecialTokens tokens) {
  ChatTemplate chat(std::move(tokens));
  CONCLAVE_TRY_VOID(chat.add(kDefaultName, source));
  return chat;
}

Result<ChatTemplate> ChatTemplate::from_metadata(const gguf::Metadata& metadata,
                                                 SpecialTokens tokens) {
  ChatTemplate chat(std::move(tokens));
  if (metadata.contains(kKey)) {
    CONCLAVE_TRY(const std::string source, metadata.get<std::string>(kKey));
    CONCLAVE_TRY_VOID(chat.add(kDefaultName, source));
  }
  if (metadata.contains("tokenizer.chat_templates")) {
    CONCLAVE_TRY(const std::vector<std::string>* listed,
                 metadata.strings("tokenizer.chat_templates"));
    for (const std::string& name : *listed) {
      std::string key(kKey);
      key.append(".").append(name);
      if (!metadata.contains(key)) continue;
      CONCLAVE_TRY(const std::string source, metadata.get<std::string>(key));
      CONCLAVE_TRY_VOID(chat.add(name, source));
    }
  }
  if (chat.variants_.empty()) {
    return base::fail(ErrorCode::kNotFound,
                      "the model file has no chat template (no key tokenizer.chat_template)");
  }
  return chat;
}

Status ChatTemplate::add(std::string name, std::string_view source) {
  Result<jinja::Template> parsed = jinja::Template::parse(source);
  if (!parsed) {
    return base::fail(ErrorCode::kCorruptData,
                      parsed.error().within("chat template '" + name + "'").message);
  }
  Variant variant{std::move(*parsed), {}};
  learn_content_rules(variant);
  variants_.insert_or_assign(std::move(name), std::make_shared<const Variant>(std::move(variant)));
  return {};
}

bool ChatTemplate::shows_content(const Variant& variant, std::string_view text) const {
  ChatRequest request;
  request.messages = {{{"role", "user"}, {"content", json::string(text)}}};
  const Result<std::string> prompt = render_with(variant, request);
  return prompt && prompt->find(text) != std::string::npos;
}

void ChatTemplate::learn_content_rules(Variant& variant) const {
  // Asking a template for its output is the one way to tell that works for all of them.
  if (variant.program.iterates_attribute("content")) {
    variant.rules.shape = ContentRules::Shape::kParts;
    const bool shows_parts = shows_content(variant, kNeedle);
    variant.rules.shape = ContentRules::Shape::kText;
    const bool shows_text = shows_content(variant, kNeedle);
    if (shows_parts) {
      variant.rules.shape = shows_text ? ContentRules::Shape::kEither : ContentRules::Shape::kParts;
    }
  }
  // Clients send null beside tool calls. Some templates test for none, others take the content
  // apart as a string.
  ChatRequest request;
  request.messages = tool_call_probe(nullptr);
  if (render_with(variant, request)) return;
  variant.rules.keep_null = false;
  if (!render_with(variant, request)) variant.rules.keep_null = true;
}

Result<const ChatTemplate::Variant*> ChatTemplate::choose(const ChatRequest& request) const {
  std::string name = request.template_name;
  if (name.empty()) {
    const bool tool_use = !request.tools.empty() && variants_.contains(kToolName);
    name = tool_use ? kToolName : kDefaultName;
    // A file that only has named ones: the first stands in.
    if (!variants_.contains(name)) return variants_.begin()->second.get();
  }
  const auto found = variants_.find(name);
  if (found == variants_.end()) {
    return base::fail(ErrorCode::kNotFound, "the model has no chat template '" + name + "'");
  }
  return found->second.get();
}

Result<std::string> ChatTemplate::render(const ChatRequest& request) const {
  CONCLAVE_TRY(const Variant* variant, choose(request));
  return render_with(*variant, request);
}

Result<std::string> ChatTemplate::render_with(const Variant& variant,
                                              const ChatRequest& request) const {
  CONCLAVE_TRY(Value messages, template_messages(request.messages, variant.rules));
  CONCLAVE_TRY(Value tools, list_or_none("tools", request.tools));
  CONCLAVE_TRY(Value documents, list_or_none("documents", request.documents));
  jinja::Object context{
      {"messages", std::move(messages)},   {"tools", std::move(tools)},
      {"documents", std::move(documents)}, {"add_generation_prompt", request.add_generation_prompt},
      {"bos_token", tokens_.bos},          {"eos_token", tokens_.eos}};
  // Absent and not empty: templates test whether they are defined.
  if (!tokens_.unk.empty()) context.set("unk_token", tokens_.unk);
  if (!tokens_.pad.empty()) context.set("pad_token", tokens_.pad);
  CONCLAVE_TRY_VOID(add_kwargs(context, request.template_kwargs));

  jinja::RenderOptions options;
  options.now = request.now;
  return variant.program.render(Value(std::move(context)), options);
}

std::vector<std::string> ChatTemplate::names() const {
  std::vector<std::string> names;
  for (const auto& [name, variant] : variants_) names.push_back(name);
  return names;
}

}  // namespace conclave::chat
