#include "prompt_builder.hpp"

#include <boost/json.hpp>
#include <utility>

namespace conclave::router {

using base::ErrorCode;
using base::fail;
namespace json = boost::json;

namespace {

// A conversation nests its tools' JSON schemas; nobody nests deeper.
constexpr std::size_t kJsonDepthMax = 64;

base::Result<json::object> parse_object(const std::string& text) {
  json::parse_options options;
  options.max_depth = kJsonDepthMax;
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "the conversation is no JSON object");
  }
  return std::move(value.get_object());
}

// Moves the array `key` of `from` to `to`; absent and null are empty.
base::Status take_array(json::object& from, const char* key, json::array& to) {
  json::value* value = from.if_contains(key);
  if (value == nullptr || value->is_null()) return {};
  if (!value->is_array()) {
    return fail(ErrorCode::kInvalidArgument, std::string(key) + " is no list");
  }
  to = std::move(value->get_array());
  return {};
}

base::Result<chat::ChatRequest> chat_request(const std::string& body) {
  CONCLAVE_TRY(json::object object, parse_object(body));
  chat::ChatRequest request;
  CONCLAVE_TRY_VOID(take_array(object, "messages", request.messages));
  CONCLAVE_TRY_VOID(take_array(object, "tools", request.tools));
  CONCLAVE_TRY_VOID(take_array(object, "documents", request.documents));
  if (json::value* kwargs = object.if_contains("chat_template_kwargs");
      kwargs != nullptr && !kwargs->is_null()) {
    if (!kwargs->is_object()) {
      return fail(ErrorCode::kInvalidArgument, "chat_template_kwargs is no object");
    }
    request.template_kwargs = std::move(kwargs->get_object());
  }
  if (const json::value* add = object.if_contains("add_generation_prompt");
      add != nullptr && !add->is_null()) {
    if (!add->is_bool()) {
      return fail(ErrorCode::kInvalidArgument, "add_generation_prompt is no boolean");
    }
    request.add_generation_prompt = add->get_bool();
  }
  return request;
}

}  // namespace

base::Result<PromptBuilder> PromptBuilder::create(const gguf::Metadata& metadata,
                                                  const tokenizer::Tokenizer& tokenizer) {
  const auto text = [&](tokenizer::TokenId id) { return std::string(tokenizer.token_text(id)); };
  const tokenizer::SpecialTokens& special = tokenizer.special();
  auto parsed = chat::ChatTemplate::from_metadata(
      metadata,
      {text(special.bos), text(special.eos), text(special.unknown), text(special.padding)});
  if (parsed) return PromptBuilder(tokenizer, std::move(*parsed));
  if (parsed.error().code == ErrorCode::kNotFound) return PromptBuilder(tokenizer, std::nullopt);
  return fail(parsed.error());
}

base::Result<std::string> PromptBuilder::render(const std::string& body,
                                                std::chrono::sys_seconds now) const {
  if (!template_) {
    return fail(ErrorCode::kFailedPrecondition,
                "this model has no chat template: use /v1/completions");
  }
  CONCLAVE_TRY(chat::ChatRequest request, chat_request(body));
  request.now = now;
  return template_->render(request);
}

base::Result<std::vector<std::int32_t>> PromptBuilder::tokens(wire::PromptKind kind,
                                                              const std::string& text,
                                                              std::chrono::sys_seconds now) const {
  switch (kind) {
    case wire::PromptKind::kText:
      return encode(text, true, true);
    case wire::PromptKind::kChat: {
      CONCLAVE_TRY(const std::string prompt, render(text, now));
      // The template prints BOS itself where the model wants one.
      return encode(prompt, false, true);
    }
    case wire::PromptKind::kTokens:
      break;
  }
  return fail(ErrorCode::kInvalidArgument, "tokens need no tokenizer");
}

base::Result<std::vector<std::int32_t>> PromptBuilder::encode(std::string_view text,
                                                              bool add_special,
                                                              bool parse_special) const {
  return tokenizer_.encode(text, {.parse_special = parse_special, .add_special = add_special});
}

}  // namespace conclave::router
