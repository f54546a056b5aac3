// The answers of /tokenize and /detokenize, in vLLM's shapes.
#pragma once

#include <string>

#include "conclave/wire/inference.hpp"

namespace conclave::gateway {

std::string tokenize_answer(const wire::TokenizeReply& reply, bool token_strings);
std::string detokenize_answer(const wire::DetokenizeReply& reply);

}  // namespace conclave::gateway
