// The conversation of gateway and router: prompts in, tokens out. Rules: schemas/inference.capnp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conclave/base/error.hpp"
#include "conclave/wire/common.hpp"

namespace conclave::wire {

enum class PromptKind : std::uint8_t {
  kText = 1,    // `text` is the whole prompt: special tokens in it are parsed
  kTokens = 2,  // `tokens` as they are
  kChat = 3,    // `text` is a JSON object: messages, tools, documents, chat_template_kwargs, ..
};

struct LogitBias {
  std::int32_t token = 0;
  float bias = 0.0f;  // -100 to 100

  friend bool operator==(const LogitBias&, const LogitBias&) = default;
};

/// As engine::SamplingParams; the ranges are checked there.
struct Sampling {
  float temperature = 1.0f;
  float top_p = 1.0f;
  float min_p = 0.0f;
  std::uint32_t top_k = 0;
  std::uint64_t seed = 0;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  std::uint32_t min_tokens = 0;
  std::vector<LogitBias> logit_bias;

  friend bool operator==(const Sampling&, const Sampling&) = default;
};

/// What a choice had given before its router was lost.
struct ResumedChoice {
  std::vector<std::int32_t> tokens;  // of its output, those that were reported, in order
  bool finished = false;             // nothing is computed or reported of it any more

  friend bool operator==(const ResumedChoice&, const ResumedChoice&) = default;
};

/// gateway -> router, answered by Accepted; then TokenEvents come until every choice has finished.
struct Generate {
  std::string gateway;       // node name: whose `streams` actor hears the events
  std::uint64_t stream = 0;  // chosen by the gateway, unique in its incarnation
  std::string request_id;    // the client's, for logs
  std::string model;         // the name that the client asked for
  PromptKind kind = PromptKind::kText;
  std::string text;
  std::vector<std::int32_t> tokens;
  std::uint32_t choices = 1;                // n; choice i draws with seed + i
  std::optional<std::uint32_t> max_tokens;  // absent: what the context leaves; 0 with echo: only
                                            // the prompt is scored
  Sampling sampling;
  std::vector<std::string> stop;
  std::vector<std::int32_t> stop_tokens;
  bool include_stop = false;  // the stop string is part of the text
  bool ignore_eos = false;
  bool logprobs = false;
  std::uint32_t top_logprobs = 0;
  bool echo = false;                  // report the prompt's tokens; with logprobs: theirs too
  TraceContext trace;                 // of the client's request
  std::int32_t priority = 0;          // lower goes first
  std::string cache_salt;             // prefixes are shared among equal ones
  std::vector<ResumedChoice> resume;  // empty: from the beginning; else one for each choice, not
                                      // all finished, and no echo
  std::uint32_t version = 0;          // of the model that began it; another one is kUnavailable; 0:
                                      // whichever is served
  std::int64_t started_unix_s = 0;    // what a chat template may print as today; 0: the router's
                                      // clock

  friend bool operator==(const Generate&, const Generate&) = default;
};

/// The request is queued or running.
struct Accepted {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t max_tokens =
      0;                      // of each choice; what an open one has become; 0: not said, or none
  std::uint32_t version = 0;  // of the model; 0: not said

  friend bool operator==(const Accepted&, const Accepted&) = default;
};

struct TokenChoice {
  std::int32_t token = 0;
  float logprob = 0.0f;
  std::string piece;  // the token's bytes, not always whole characters

  friend bool operator==(const TokenChoice&, const TokenChoice&) = default;
};

enum class FinishReason : std::uint8_t {
  kNone = 0,  // goes on
  kStop = 1,
  kLength = 2,
  kCancelled = 3,
  kError = 4,
};

/// One token of one choice, or (token < 0) the end of a choice without one.
struct TokenEvent {
  std::uint32_t choice = 0;
  std::int32_t token = -1;
  float logprob = 0.0f;  // only if logprobs were asked for
  std::string piece;     // only if logprobs were asked for
  std::string text;      // valid UTF-8: whole characters that became certain with this token
  std::vector<TokenChoice> top;
  FinishReason finish = FinishReason::kNone;
  base::Error error{};              // with kError
  std::uint32_t cached_tokens = 0;  // of the prompt, tokens that were not computed for this choice
  std::uint32_t degraded = 0;       // pairs that went to next-best experts since its last event
  std::uint64_t pairs = 0;          // computed for this choice since its last event
  std::uint64_t device_us = 0;      // of workers' devices, for these pairs

  friend bool operator==(const TokenEvent&, const TokenEvent&) = default;
};

struct StreamEvents {
  std::uint64_t stream = 0;
  std::vector<TokenEvent> prompt;  // if echo: the prompt's tokens, before any other event; long
                                   // prompts over several messages, in order
  std::vector<TokenEvent> tokens;

  friend bool operator==(const StreamEvents&, const StreamEvents&) = default;
};

/// router -> gateway, cast: what one step gave to all streams of that gateway.
struct TokenEvents {
  std::vector<StreamEvents> streams;

  friend bool operator==(const TokenEvents&, const TokenEvents&) = default;
};

/// gateway -> router, cast: nobody wants this stream any more.
struct CancelStream {
  std::string gateway;
  std::uint64_t stream = 0;

  friend bool operator==(const CancelStream&, const CancelStream&) = default;
};

/// gateway -> router, answered by TokenizeReply. Text or chat, as in Generate.
struct TokenizeRequest {
  std::string model;
  PromptKind kind = PromptKind::kText;
  std::string text;
  bool add_special = true;
  bool parse_special = false;

  friend bool operator==(const TokenizeRequest&, const TokenizeRequest&) = default;
};

struct TokenizeReply {
  std::vector<std::int32_t> tokens;
  std::vector<std::string> pieces;
  std::uint32_t context_length = 0;

  friend bool operator==(const TokenizeReply&, const TokenizeReply&) = default;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<std::int32_t> tokens;

  friend bool operator==(const DetokenizeRequest&, const DetokenizeRequest&) = default;
};

struct DetokenizeReply {
  std::string text;

  friend bool operator==(const DetokenizeReply&, const DetokenizeReply&) = default;
};

}  // namespace conclave::wire
