// The answer to one client request, grown event by event: of a stream the server-sent events as
// they come, otherwise one JSON object at the end. Knows both shapes, of chats and of completions;
// knows no sockets, routers or clocks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/wire/inference.hpp"
#include "openai_request.hpp"
#include "piece.hpp"

namespace conclave::gateway {

/// What is the same in every chunk.
struct AnswerHead {
  std::string id;            // chatcmpl-.. or cmpl-..
  std::int64_t created = 0;  // seconds since the epoch
  std::string model;
  std::string fingerprint;  // of the model's bytes; empty: not known
};

struct Usage {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t cached_tokens = 0;  // of the prompts', as the first choice of each found them first
  /// Pairs that went to next-best experts, for want of the gate's choice. Written only if there are
  /// any, as `conclave_degraded`; 0: the answer is what the model says.
  std::uint64_t degraded_pairs = 0;
  std::uint64_t expert_pairs = 0;  // that were computed; not written
  std::uint64_t device_us = 0;     // of workers' devices, for these; not written

  friend bool operator==(const Usage&, const Usage&) = default;
};

/// One thread. Bounded by what the model's context holds, for each choice.
class Answer {
 public:
  Answer(const AnswerFormat& format, const AnswerHead& head,
         std::span<const wire::Generate> prompts);

  /// A router took prompt `prompt`, which has so many tokens.
  void accept(std::size_t prompt, std::uint32_t prompt_tokens);

  /// Takes over what a router said about prompt `prompt`; errors and cancellations are the caller's
  /// to look at before. Of a stream, appends the events for the client to `out`, at most a few for
  /// each choice. Choices that do not exist, or have finished, are passed over.
  void add(std::size_t prompt, const wire::StreamEvents& events, std::string& out);

  /// Every choice of every prompt has finished.
  [[nodiscard]] bool complete() const { return unfinished_ == 0; }

  /// Appends the rest: the whole object, or the usage of a stream, if wanted, and its end.
  void finish(std::string& out) const;

  [[nodiscard]] Usage usage() const;

 private:
  struct Prompt {
    Piece piece;               // what `echo` puts before each choice
    std::uint64_t offset = 0;  // characters of its tokens
    std::string token_ids;     // `1,2,3`
    std::uint32_t tokens = 0;
    std::uint32_t cached_tokens = 0;
    bool says_text = true;  // the router's text is its text; false: the client's is
    bool says_ids = true;   // the same for its ids
    bool begun = false;     // its first token, which nothing predicts, has passed
  };
  struct Choice {
    Piece piece;
    std::uint64_t offset = 0;
    wire::FinishReason finish = wire::FinishReason::kNone;
    bool started = false;  // has heard of a token
    bool opened = false;   // something of it was sent
    bool changed = false;  // by the events that are being added
  };

  void add_prompt_token(Prompt& prompt, const wire::TokenEvent& event);
  void add_token(std::size_t index, const wire::TokenEvent& event);
  void start(std::size_t index);
  void send(std::size_t index, std::string& out);
  void send_chat(std::size_t index, std::string& out);
  void send_completion(std::size_t index, std::string& out);

  /// {"id":.. with what `write` adds to it, as one event. The first one after a pair was degraded
  /// says so, for readers who will not see the head again.
  template <class Write>
  void chunk(std::string& out, Write write);
  template <class WriteDelta>
  void chat_chunk(std::size_t index, std::string& out, WriteDelta write_delta);
  void write_completion_choice(JsonWriter& json, std::size_t index, bool with_prompt_ids) const;
  void write_chat_choice(JsonWriter& json, std::size_t index) const;
  void write_usage(JsonWriter& json) const;
  [[nodiscard]] const Prompt& prompt_of(std::size_t index) const {
    return prompts_[index / format_.choices];
  }

  const AnswerFormat format_;
  std::string head_;  // {"id":..,"object":..,"created":..,"model":..,"system_fingerprint":..,
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;  // of prompt p: from p * format_.choices on
  std::size_t unfinished_;
  std::uint64_t completion_tokens_ = 0;
  std::uint64_t degraded_pairs_ = 0;
  std::uint64_t expert_pairs_ = 0;
  std::uint64_t device_us_ = 0;
  bool said_degraded_ = false;
};

/// What went wrong after a stream began, as its last event.
std::string stream_error(const ApiError& error);

}  // namespace conclave::gateway
