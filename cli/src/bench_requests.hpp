// The requests that `conclave bench serve` sends: bodies for an OpenAI endpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::cli {

enum class PromptInput {
  kIds,   // /v1/completions with token ids: exact lengths
  kText,  // /v1/completions with words: about one token each
  kChat,  // /v1/chat/completions with a user's message of words
};

struct RequestShape {
  PromptInput input = PromptInput::kIds;
  std::uint32_t prompt_tokens = 128;  // or words
  std::uint32_t new_tokens = 128;
  double prefix_share = 0.0;  // [0, 1] of each prompt, from its beginning, is the same for all
  std::uint32_t vocab = 1;    // ids are drawn below it
  bool stream = true;         // and then asks for the usage at the end of the stream
  bool ignore_eos = true;
  double temperature = 1.0;
  std::string model;
  std::uint64_t seed = 0;
};

/// The path of the endpoint that takes them.
std::string_view endpoint(PromptInput input);

/// The body of request `index`: a pure function of both, so that servers can be compared on the
/// same work. Different requests differ behind the shared prefix.
std::string request_body(const RequestShape& shape, std::uint64_t index);

}  // namespace conclave::cli
