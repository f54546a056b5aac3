#include "request_fields.hpp"

#include <charconv>
#include <limits>

#include "conclave/wire/limits.hpp"

namespace conclave::gateway {

namespace json = boost::json;

namespace {

// No context comes near it; what it is held against is the model's.
constexpr std::int64_t kTokensMax = 1 << 28;
constexpr std::int64_t kTopKMax = 1 << 30;
// The least that is not zero for an engine.
constexpr float kAboveZero = 1e-6f;

std::string index_of(std::string_view name, std::size_t index) {
  return std::string(name) + "[" + std::to_string(index) + "]";
}

// The canonical digits of a token id.
std::optional<std::int32_t> token_of(std::string_view text) {
  std::int32_t token = -1;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, token);
  if (error != std::errc() || stop != end || token < 0) return std::nullopt;
  if (std::to_string(token) != text) return std::nullopt;  // "01" would be "1" again
  return token;
}

void read_logit_bias(JsonFields& fields, wire::Sampling& sampling) {
  const json::object* biases = fields.object("logit_bias");
  if (biases == nullptr) return;
  if (biases->size() > kLogitBiasMax) {
    fields.fail("logit_bias",
                "logit_bias may name at most " + std::to_string(kLogitBiasMax) + " tokens");
    return;
  }
  for (const auto& [key, value] : *biases) {
    const auto token = token_of({key.data(), key.size()});
    if (!token) {
      fields.fail("logit_bias", "The keys of logit_bias must be token ids");
      return;
    }
    const auto bias = value.is_number() ? static_cast<float>(value.to_number<double>())
                                        : std::numeric_limits<float>::quiet_NaN();
    if (!(bias >= -100.0f && bias <= 100.0f)) {
      fields.fail("logit_bias", "The values of logit_bias must be numbers of -100 to 100");
      return;
    }
    sampling.logit_bias.push_back({*token, bias});
  }
}

void read_stops(JsonFields& fields, std::vector<std::string>& stops) {
  const json::value* stop = fields.find("stop");
  if (stop == nullptr) return;
  const auto add = [&](const json::value& value, const std::string& param) {
    if (!value.is_string()) {
      fields.fail(param, "stop must be a string or a list of strings", "invalid_type");
      return;
    }
    const json::string& text = value.get_string();
    if (text.empty() || text.size() > wire::kStopBytesMax) {
      fields.fail(param,
                  "A stop string must have 1 to " + std::to_string(wire::kStopBytesMax) + " bytes");
      return;
    }
    stops.emplace_back(text);
  };
  if (!stop->is_array()) {
    add(*stop, "stop");
    return;
  }
  const json::array& list = stop->get_array();
  if (list.size() > wire::kStopsMax) {
    fields.fail("stop", "At most " + std::to_string(wire::kStopsMax) + " stop strings are taken");
    return;
  }
  for (std::size_t i = 0; i < list.size(); ++i) add(list[i], index_of("stop", i));
}

void read_stop_tokens(JsonFields& fields, std::vector<std::int32_t>& tokens) {
  const json::array* list = fields.array("stop_token_ids");
  if (list == nullptr) return;
  if (list->size() > wire::kStopsMax) {
    fields.fail("stop_token_ids",
                "At most " + std::to_string(wire::kStopsMax) + " stop tokens are taken");
    return;
  }
  auto ids = token_ids(*list);
  if (!ids) {
    fields.fail("stop_token_ids", "stop_token_ids must be a list of token ids", "invalid_type");
    return;
  }
  tokens = std::move(*ids);
}

std::uint64_t read_seed(JsonFields& fields, const RandomNumbers& random) {
  const json::value* value = fields.find("seed");
  if (value == nullptr) return random();
  if (value->is_uint64()) return value->get_uint64();
  // A negative seed is as good as any: its bits are taken.
  const auto seed = whole_number(*value);
  if (seed) return static_cast<std::uint64_t>(*seed);
  fields.fail("seed", "seed must be an integer of 64 bits", "invalid_type");
  return 0;
}

void add_tokens(JsonFields& fields, const std::string& param, const json::array& list,
                const wire::Generate& pattern, std::vector<wire::Generate>& prompts) {
  auto ids = token_ids(list);
  if (!ids) {
    fields.fail(param, "A prompt of tokens must be a list of token ids", "invalid_type");
    return;
  }
  if (ids->empty()) {
    fields.fail(param, "A prompt must have at least one token");
    return;
  }
  wire::Generate& prompt = prompts.emplace_back(pattern);
  prompt.kind = wire::PromptKind::kTokens;
  prompt.tokens = std::move(*ids);
}

void add_text(const json::string& text, const wire::Generate& pattern,
              std::vector<wire::Generate>& prompts) {
  wire::Generate& prompt = prompts.emplace_back(pattern);
  prompt.kind = wire::PromptKind::kText;
  prompt.text = text;
}

}  // namespace

void read_sampling(JsonFields& fields, const RandomNumbers& random, wire::Sampling& sampling) {
  sampling.temperature = fields.number("temperature", 1.0f, 0.0f, 2.0f);
  sampling.top_p = fields.number("top_p", 1.0f, kAboveZero, 1.0f);
  sampling.min_p = fields.number("min_p", 0.0f, 0.0f, 1.0f);
  const std::int64_t top_k = fields.integer("top_k", -1, kTopKMax).value_or(0);
  sampling.top_k = top_k < 0 ? 0 : static_cast<std::uint32_t>(top_k);  // -1 is vLLM's "all"
  sampling.presence_penalty = fields.number("presence_penalty", 0.0f, -2.0f, 2.0f);
  sampling.frequency_penalty = fields.number("frequency_penalty", 0.0f, -2.0f, 2.0f);
  sampling.repetition_penalty = fields.number("repetition_penalty", 1.0f, kAboveZero, 10.0f);
  sampling.seed = read_seed(fields, random);
  read_logit_bias(fields, sampling);
}

void read_limits(JsonFields& fields, std::int64_t tokens_min, wire::Generate& generate) {
  auto tokens = fields.integer("max_tokens", tokens_min, kTokensMax);
  // The newer name of the same.
  if (const auto newer = fields.integer("max_completion_tokens", tokens_min, kTokensMax)) {
    tokens = newer;
  }
  if (tokens) generate.max_tokens = static_cast<std::uint32_t>(*tokens);
  const std::int64_t least = fields.integer("min_tokens", 0, kTokensMax).value_or(0);
  generate.sampling.min_tokens = static_cast<std::uint32_t>(least);
  if (generate.max_tokens && least > *generate.max_tokens) {
    fields.fail("min_tokens", "min_tokens must not be above max_tokens");
  }
  read_stops(fields, generate.stop);
  read_stop_tokens(fields, generate.stop_tokens);
  generate.include_stop = fields.boolean("include_stop_str_in_output", false);
  generate.ignore_eos = fields.boolean("ignore_eos", false);
}

void read_prompts(JsonFields& fields, const wire::Generate& pattern,
                  std::vector<wire::Generate>& prompts) {
  const json::value* prompt = fields.find("prompt");
  if (prompt == nullptr) {
    fields.fail("prompt", "prompt is missing", "missing_required_parameter");
    return;
  }
  if (prompt->is_string()) {
    add_text(prompt->get_string(), pattern, prompts);
    return;
  }
  constexpr std::string_view kForms =
      "prompt must be a string, a list of strings, a list of token ids or a list of such lists";
  const json::array* list = prompt->if_array();
  if (list == nullptr) {
    fields.fail("prompt", std::string(kForms), "invalid_type");
    return;
  }
  if (list->empty()) {
    fields.fail("prompt", "prompt must not be an empty list");
    return;
  }
  if (list->front().is_number()) {
    add_tokens(fields, "prompt", *list, pattern, prompts);
    return;
  }
  if (list->size() > kPromptsMax) {
    fields.fail("prompt", "At most " + std::to_string(kPromptsMax) + " prompts are taken");
    return;
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    const json::value& one = (*list)[i];
    if (one.kind() != list->front().kind() || !(one.is_string() || one.is_array())) {
      fields.fail(index_of("prompt", i), std::string(kForms), "invalid_type");
      return;
    }
    if (one.is_string()) {
      add_text(one.get_string(), pattern, prompts);
    } else {
      add_tokens(fields, index_of("prompt", i), one.get_array(), pattern, prompts);
    }
  }
}

}  // namespace conclave::gateway
