// What a caller asks of the batcher and what it hears back: one request and the events of one
// sequence. Plain values, free to cross threads and, through libs/wire, processes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/error.hpp"
#include "conclave/engine/sampling_params.hpp"
#include "conclave/tokenizer/token.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::engine {

/// Names a sequence of one batcher; never used twice.
enum class SequenceId : std::uint64_t {};

struct TokenLogprob {
  std::int32_t id = 0;
  float logprob = 0.0f;

  friend bool operator==(const TokenLogprob&, const TokenLogprob&) = default;
};

/// Log-probabilities at one position, from the log-softmax of the model's plain logits: before
/// bias, penalties and temperature (vLLM's default).
struct TokenLogprobs {
  std::int32_t token = tokenizer::kNoToken;
  float logprob = 0.0f;           // of `token`
  std::vector<TokenLogprob> top;  // the most likely ones, best first, `token` among them or not

  friend bool operator==(const TokenLogprobs&, const TokenLogprobs&) = default;
};

/// Most alternatives at one position: 8 KiB a token, fifty times what OpenAI's API gives.
inline constexpr std::uint32_t kTopLogprobsMax = 1024;
/// Stop strings of one request and the bytes of one: OpenAI takes 4; each costs an automaton step a
/// byte of text and holds back up to its length.
inline constexpr std::size_t kStopStringsMax = 64;
inline constexpr std::size_t kStopBytesMax = 1024;
/// Stop tokens of one request: each is looked at for each token.
inline constexpr std::size_t kStopTokensMax = 256;
/// A salt is a secret or the name of a tenant; only its digest is kept.
inline constexpr std::size_t kCacheSaltBytesMax = 256;

/// One decoding of one prompt. n > 1 choices are n sequences with seeds that the caller chooses.
struct SequenceRequest {
  std::vector<std::int32_t> prompt;  // at least one token
  /// The first tokens of the output, produced elsewhere: by a router that died, say. They count as
  /// output everywhere (positions, penalties, max_tokens, stop strings, text held back) and nothing
  /// of them is reported again; what follows is what would have followed there, bit for bit.
  std::vector<std::int32_t> generated;
  std::uint32_t max_tokens = 16;  // of the whole output; 0: the prompt is only scored
  SamplingParams sampling;
  /// Lower goes first, but not before what came 1,024 requests earlier for each step between the
  /// two: nobody waits for ever.
  std::int32_t priority = 0;
  /// Sequences share what they compute of equal prefixes only if their salts are equal: how long a
  /// first token takes tells whether somebody has asked the same before. At most
  /// kCacheSaltBytesMax.
  std::string cache_salt;

  bool logprobs = false;           // report each token's log-probability
  std::uint32_t top_logprobs = 0;  // alternatives beside it, at most kTopLogprobsMax
  bool prompt_logprobs = false;    // report those of the prompt too; not when resuming

  bool ignore_eos = false;                // go on past the tokens that end a text
  std::vector<std::int32_t> stop_tokens;  // more tokens that end it
  std::vector<std::string> stop;          // strings that end it; UTF-8, none empty
  bool include_stop = false;              // leave the stop string, or stop token, in the output
  tokenizer::DecodeOptions decode{.skip_special = true, .strip_leading_space = false};
};

enum class FinishReason : std::uint8_t {
  kNone,       // more will come
  kStop,       // an end token, a stop token or a stop string
  kLength,     // max_tokens
  kCancelled,  // Batcher::cancel
  kError,      // TokenEvent::error says what
};

/// `none`, `stop`, `length`, `cancelled`, `error`.
std::string_view to_string(FinishReason reason);

/// What one step did for one sequence. The last event of a sequence has a `finish`.
///
/// Tokens and text: each token of the output is reported once, in the step that drew it, whatever
/// happens to its text. `text` is what has become certain: whole characters only, and nothing that
/// could still turn out to be the beginning of a stop string; the last event brings what was held
/// back. The text ends before the stop string (after it with include_stop), so the tokens may spell
/// more than the text. An end token is no part of the output: it is in `stop_token`, not in
/// `token`, and has neither text nor logprob. A stop token likewise, unless include_stop.
struct TokenEvent {
  SequenceId id{};
  std::int32_t token = tokenizer::kNoToken;  // kNoToken: this event brings none
  float logprob = 0.0f;                      // of `token`, if asked for
  std::vector<TokenLogprob> top;             // best first, as many as asked for
  std::string text;
  std::vector<TokenLogprobs> prompt;  // of the next tokens of the prompt, from the second on
  std::uint32_t cached_tokens = 0;    // tokens of the prompt that others had computed already
  std::uint32_t degraded = 0;   // pairs that went to next-best experts, since its last event; 0:
                                // what was computed is exact
  std::uint64_t pairs = 0;      // computed for it since its last event
  std::uint64_t device_us = 0;  // its share of the time of workers' devices for these
  FinishReason finish = FinishReason::kNone;
  std::int32_t stop_token = tokenizer::kNoToken;  // kStop: the token that ended the text, or
  std::int32_t stop_string = -1;                  // the index in SequenceRequest::stop
  base::Error error;                              // kError
};

}  // namespace conclave::engine
