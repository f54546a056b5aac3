// From the bodies that clients of OpenAI's API send to what routers take: every check that needs no
// model is made here, and whatever would change the answer but cannot be honoured is refused.
// Fields that nobody knows are passed over, as vLLM does. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "api_error.hpp"
#include "conclave/wire/inference.hpp"

namespace conclave::gateway {

/// Alternatives of each token; what OpenAI's API gives for chats, and vLLM by default.
inline constexpr std::uint32_t kTopLogprobsMax = 20;
/// What engines take, as OpenAI's API.
inline constexpr std::size_t kLogitBiasMax = 300;
/// Prompts of one body: evaluation harnesses send some hundred at a time. Each is a stream.
inline constexpr std::size_t kPromptsMax = 512;
/// Choices of all prompts of one body: each is a sequence with a cache of its own.
inline constexpr std::size_t kAllChoicesMax = 1024;
/// Of a completion that does not say (OpenAI, vLLM).
inline constexpr std::uint32_t kCompletionTokens = 16;

/// How the client wants its answer; nothing in it changes the tokens.
struct AnswerFormat {
  bool chat = false;
  bool stream = false;
  bool include_usage = false;     // a last event with the counts
  bool continuous_usage = false;  // the counts so far in every event (vLLM)
  bool logprobs = false;
  std::uint32_t top_logprobs = 0;
  bool echo = false;              // the prompt is part of the text
  bool return_token_ids = false;  // (vLLM)
  std::uint32_t choices = 1;      // of each prompt

  friend bool operator==(const AnswerFormat&, const AnswerFormat&) = default;
};

struct GenerationRequest {
  std::string model;
  AnswerFormat format;
  std::string user;     // that the body names; empty: none
  std::string session;  // `user`, say: requests of one session like to meet the same router
  /// One for each prompt; without gateway, stream, request_id and trace. Each choice is its own
  /// stream of the answer: choice c of prompt p has index p * choices + c.
  std::vector<wire::Generate> prompts;

  friend bool operator==(const GenerationRequest&, const GenerationRequest&) = default;
};

/// Where a request that names no seed gets one for each of its prompts.
using RandomNumbers = std::function<std::uint64_t()>;

Parsed<GenerationRequest> parse_chat(std::string_view body, const RandomNumbers& random);
Parsed<GenerationRequest> parse_completion(std::string_view body, const RandomNumbers& random);

struct TokenizeBody {
  wire::TokenizeRequest request;  // an empty model: whichever is served
  bool token_strings = false;

  friend bool operator==(const TokenizeBody&, const TokenizeBody&) = default;
};

Parsed<TokenizeBody> parse_tokenize(std::string_view body);
Parsed<wire::DetokenizeRequest> parse_detokenize(std::string_view body);

}  // namespace conclave::gateway
