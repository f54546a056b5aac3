// The groups of fields that request bodies are made of. Each function reads its own and leaves what
// is wrong in `fields`.
#pragma once

#include <string>
#include <vector>

#include "json_fields.hpp"
#include "openai_request.hpp"

namespace conclave::gateway {

/// How tokens are drawn.
void read_sampling(JsonFields& fields, const RandomNumbers& random, wire::Sampling& sampling);

/// When a choice ends: lengths, stop strings and tokens. `tokens_min`: least max_tokens.
void read_limits(JsonFields& fields, std::int64_t tokens_min, wire::Generate& generate);

/// The prompts of a completion: text, tokens, or a list of either.
void read_prompts(JsonFields& fields, const wire::Generate& pattern,
                  std::vector<wire::Generate>& prompts);

/// The conversation as routers take it: the JSON text of an object with messages, tools, documents,
/// chat_template_kwargs and add_generation_prompt.
std::string read_conversation(JsonFields& fields);

/// Refuses what would change the answer but cannot be honoured.
enum class Endpoint : std::uint8_t { kChat = 1, kCompletions = 2, kTokenize = 4 };
void refuse_unsupported(JsonFields& fields, Endpoint endpoint);

}  // namespace conclave::gateway
