#include "openai_request.hpp"

#include <boost/json/array.hpp>

#include "conclave/wire/limits.hpp"
#include "request_fields.hpp"

namespace conclave::gateway {

namespace json = boost::json;

namespace {

void read_model(JsonFields& fields, std::string& model) {
  auto name = fields.text("model");
  if (!name || name->empty()) {
    fields.fail("model", "you must provide a model parameter", "missing_required_parameter");
  } else if (name->size() > wire::kNameBytesMax) {
    fields.fail(unknown_model(*name));
  } else {
    model = std::move(*name);
  }
}

void read_stream_options(JsonFields& fields, AnswerFormat& format) {
  format.stream = fields.boolean("stream", false);
  const json::object* options = fields.object("stream_options");
  if (options == nullptr) return;
  if (!format.stream) {
    fields.fail("stream_options", "stream_options is only allowed when stream is true");
    return;
  }
  JsonFields inner(*options);
  format.include_usage = inner.boolean("include_usage", false);
  format.continuous_usage = inner.boolean("continuous_usage_stats", false) && format.include_usage;
  if (!inner.ok()) {
    ApiError error = *inner.error();
    error.param.insert(0, "stream_options.");
    fields.fail(std::move(error));
  }
}

// Anybody may ask for it: bounded, so that who waits at 0 comes before long whatever others say.
constexpr std::int64_t kPriorityMax = 10;

// When it is served, and with whom it shares what is computed of its prompt (vLLM).
void read_service(JsonFields& fields, wire::Generate& generate) {
  generate.priority = static_cast<std::int32_t>(
      fields.integer("priority", -kPriorityMax, kPriorityMax).value_or(0));
  auto salt = fields.text("cache_salt");
  if (!salt) return;
  if (salt->empty() || salt->size() > wire::kCacheSaltBytesMax) {
    fields.fail("cache_salt",
                "cache_salt must have 1 to " + std::to_string(wire::kCacheSaltBytesMax) + " bytes");
    return;
  }
  generate.cache_salt = std::move(*salt);
}

// What chats and completions have in common.
void read_common(JsonFields& fields, const RandomNumbers& random, GenerationRequest& request,
                 wire::Generate& pattern) {
  read_model(fields, request.model);
  pattern.model = request.model;
  read_stream_options(fields, request.format);
  request.format.return_token_ids = fields.boolean("return_token_ids", false);
  pattern.choices = static_cast<std::uint32_t>(
      fields.integer("n", 1, static_cast<std::int64_t>(wire::kChoicesMax)).value_or(1));
  request.format.choices = pattern.choices;
  read_sampling(fields, random, pattern.sampling);
  read_service(fields, pattern);
  request.user = fields.text("user").value_or("");
  request.session = request.user;
}

void read_chat_logprobs(JsonFields& fields, AnswerFormat& format) {
  format.logprobs = fields.boolean("logprobs", false);
  const auto top = fields.integer("top_logprobs", 0, kTopLogprobsMax);
  if (!top) return;
  if (*top > 0 && !format.logprobs) {
    fields.fail("top_logprobs", "top_logprobs needs logprobs to be true");
    return;
  }
  format.top_logprobs = static_cast<std::uint32_t>(*top);
}

void read_completion_logprobs(JsonFields& fields, AnswerFormat& format) {
  const auto top = fields.integer("logprobs", 0, kTopLogprobsMax);
  if (!top) return;
  format.logprobs = true;
  format.top_logprobs = static_cast<std::uint32_t>(*top);
}

// best_of candidates of which the best n are kept: only those that are all kept.
void check_best_of(JsonFields& fields, std::uint32_t choices) {
  const auto best_of = fields.integer("best_of", 1, static_cast<std::int64_t>(wire::kChoicesMax));
  if (!best_of || *best_of == choices) return;
  fields.fail("best_of", "best_of is not supported: it must be n", "unsupported_parameter");
}

void carry_format(const AnswerFormat& format, wire::Generate& generate) {
  generate.logprobs = format.logprobs;
  generate.top_logprobs = format.top_logprobs;
  // The ids of a prompt come back the same way as its text does.
  generate.echo = format.echo || format.return_token_ids;
}

}  // namespace

Parsed<GenerationRequest> parse_chat(std::string_view body, const RandomNumbers& random) {
  const auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  JsonFields fields(*object);
  GenerationRequest request;
  request.format.chat = true;
  wire::Generate generate;
  generate.kind = wire::PromptKind::kChat;
  read_common(fields, random, request, generate);
  read_limits(fields, 1, generate);
  read_chat_logprobs(fields, request.format);
  refuse_unsupported(fields, Endpoint::kChat);
  generate.text = read_conversation(fields);
  if (!fields.ok()) return tl::unexpected(*fields.error());
  carry_format(request.format, generate);
  request.prompts.push_back(std::move(generate));
  return request;
}

Parsed<GenerationRequest> parse_completion(std::string_view body, const RandomNumbers& random) {
  const auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  JsonFields fields(*object);
  GenerationRequest request;
  wire::Generate pattern;
  read_common(fields, random, request, pattern);
  request.format.echo = fields.boolean("echo", false);
  pattern.max_tokens = kCompletionTokens;
  read_limits(fields, request.format.echo ? 0 : 1, pattern);
  read_completion_logprobs(fields, request.format);
  check_best_of(fields, pattern.choices);
  refuse_unsupported(fields, Endpoint::kCompletions);
  carry_format(request.format, pattern);
  read_prompts(fields, pattern, request.prompts);
  if (request.prompts.size() * pattern.choices > kAllChoicesMax) {
    fields.fail("n", "At most " + std::to_string(kAllChoicesMax) +
                         " choices of all prompts together are taken");
  }
  if (!fields.ok()) return tl::unexpected(*fields.error());
  // Prompts that name no seed shall not draw alike.
  if (fields.find("seed") == nullptr) {
    for (std::size_t i = 1; i < request.prompts.size(); ++i) {
      request.prompts[i].sampling.seed = random();
    }
  }
  return request;
}

Parsed<TokenizeBody> parse_tokenize(std::string_view body) {
  const auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  JsonFields fields(*object);
  TokenizeBody parsed;
  wire::TokenizeRequest& request = parsed.request;
  request.model = fields.text("model").value_or("");
  parsed.token_strings = fields.boolean("return_token_strs", false);
  refuse_unsupported(fields, Endpoint::kTokenize);
  if (fields.find("messages") != nullptr) {
    request.kind = wire::PromptKind::kChat;
    request.add_special = fields.boolean("add_special_tokens", false);
    if (request.add_special) {
      fields.fail("add_special_tokens", "add_special_tokens must be false with messages",
                  "unsupported_parameter");
    }
    request.text = read_conversation(fields);
  } else {
    request.kind = wire::PromptKind::kText;
    request.add_special = fields.boolean("add_special_tokens", true);
    auto prompt = fields.text("prompt");
    if (!prompt) {
      fields.fail("prompt", "prompt or messages is missing", "missing_required_parameter");
    }
    request.text = std::move(prompt).value_or("");
  }
  request.parse_special = true;  // as in prompts
  if (!fields.ok()) return tl::unexpected(*fields.error());
  return parsed;
}

Parsed<wire::DetokenizeRequest> parse_detokenize(std::string_view body) {
  const auto object = parse_body(body);
  if (!object) return tl::unexpected(object.error());
  JsonFields fields(*object);
  wire::DetokenizeRequest request;
  request.model = fields.text("model").value_or("");
  const json::array* tokens = fields.array("tokens");
  if (tokens == nullptr) {
    fields.fail("tokens", "tokens is missing", "missing_required_parameter");
  } else if (auto ids = token_ids(*tokens)) {
    request.tokens = std::move(*ids);
  } else {
    fields.fail("tokens", "tokens must be a list of token ids", "invalid_type");
  }
  if (!fields.ok()) return tl::unexpected(*fields.error());
  return request;
}

}  // namespace conclave::gateway
