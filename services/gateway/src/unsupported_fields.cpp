// What this server does not do, said at once and by name, instead of an answer that silently is not
// what was asked for.
#include <array>

#include "request_fields.hpp"

namespace conclave::gateway {

namespace json = boost::json;

namespace {

bool is_true(const json::value& value) { return value.is_bool() && value.get_bool(); }
bool is_false(const json::value& value) { return value.is_bool() && !value.get_bool(); }
bool any(const json::value&) { return true; }

bool is_not_empty(const json::value& value) {
  if (const json::array* array = value.if_array()) return !array->empty();
  if (const json::string* string = value.if_string()) return !string->empty();
  return true;
}

bool has_other_than_text(const json::value& value) {
  const json::array* modalities = value.if_array();
  if (modalities == nullptr) return true;
  for (const json::value& modality : *modalities) {
    if (!modality.is_string() || modality.get_string() != "text") return true;
  }
  return false;
}

// {"type": "text"} is the default, said aloud.
bool is_not_plain_text(const json::value& value) {
  const json::object* format = value.if_object();
  const json::value* type = format == nullptr ? nullptr : format->if_contains("type");
  return type == nullptr || !type->is_string() || type->get_string() != "text";
}

constexpr unsigned kChat = static_cast<unsigned>(Endpoint::kChat);
constexpr unsigned kCompletions = static_cast<unsigned>(Endpoint::kCompletions);
constexpr unsigned kTokenize = static_cast<unsigned>(Endpoint::kTokenize);
constexpr unsigned kGenerate = kChat | kCompletions;

struct Refusal {
  unsigned endpoints;
  std::string_view field;
  bool (*refused)(const json::value& value);  // of a value that is not null
  std::string_view message;
};

constexpr std::string_view kStructured = "Constrained output is not supported";

constexpr std::array kRefusals = {
    Refusal{kGenerate, "response_format", is_not_plain_text,
            "Constrained output is not supported: response_format must be of type text"},
    Refusal{kGenerate, "structured_outputs", any, kStructured},
    Refusal{kGenerate, "guided_json", any, kStructured},
    Refusal{kGenerate, "guided_regex", any, kStructured},
    Refusal{kGenerate, "guided_choice", any, kStructured},
    Refusal{kGenerate, "guided_grammar", any, kStructured},
    Refusal{kGenerate, "structural_tag", any, kStructured},
    Refusal{kGenerate, "use_beam_search", is_true, "Beam search is not supported"},
    Refusal{kGenerate, "bad_words", is_not_empty, "bad_words is not supported"},
    Refusal{kGenerate, "allowed_token_ids", any, "allowed_token_ids is not supported"},
    Refusal{kGenerate, "logits_processors", is_not_empty, "logits_processors is not supported"},
    Refusal{kGenerate, "prompt_logprobs", any,
            "prompt_logprobs is not supported: use echo with logprobs of /v1/completions"},
    Refusal{kGenerate, "truncate_prompt_tokens", any, "truncate_prompt_tokens is not supported"},
    Refusal{kGenerate, "skip_special_tokens", is_false, "skip_special_tokens must be true"},
    Refusal{kGenerate, "return_tokens_as_token_ids", is_true,
            "return_tokens_as_token_ids is not supported: use return_token_ids"},
    Refusal{kChat, "echo", is_true, "echo is not supported in chats"},
    Refusal{kChat, "functions", is_not_empty, "functions is not supported: use tools"},
    Refusal{kChat, "function_call", any, "function_call is not supported: use tools"},
    Refusal{kChat, "audio", any, "Sound is not supported"},
    Refusal{kChat, "modalities", has_other_than_text, "The only modality is text"},
    Refusal{kChat, "web_search_options", any, "Web search is not supported"},
    Refusal{kChat | kTokenize, "chat_template", any, "The chat template is that of the model"},
    Refusal{kChat | kTokenize, "continue_final_message", is_true,
            "continue_final_message is not supported"},
    Refusal{kChat, "add_special_tokens", is_true,
            "add_special_tokens must be false in chats: the template has them"},
    Refusal{kCompletions, "add_special_tokens", is_false, "add_special_tokens must be true"},
    Refusal{kCompletions, "suffix", is_not_empty, "suffix is not supported"},
    Refusal{kCompletions, "prompt_embeds", any, "prompt_embeds is not supported"},
};

}  // namespace

void refuse_unsupported(JsonFields& fields, Endpoint endpoint) {
  for (const Refusal& refusal : kRefusals) {
    if ((refusal.endpoints & static_cast<unsigned>(endpoint)) == 0) continue;
    const json::value* value = fields.find(refusal.field);
    if (value == nullptr || !refusal.refused(*value)) continue;
    fields.fail(std::string(refusal.field), std::string(refusal.message), "unsupported_parameter");
    return;
  }
}

}  // namespace conclave::gateway
