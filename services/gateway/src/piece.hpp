// What one chunk, or one whole choice, says: its text, its token ids and their log probabilities.
// The lists are kept as the JSON that they will be, so that a token is looked at once.
#pragma once

#include <cstdint>
#include <string>

#include "conclave/wire/inference.hpp"
#include "json_writer.hpp"
#include "openai_request.hpp"

namespace conclave::gateway {

/// `1,2,3`
void append_token_id(std::string& ids, std::int32_t token);

/// One thread.
class Piece {
 public:
  void add_text(std::string_view text) {
    text_ += text;
    empty_ = empty_ && text.empty();
  }

  /// The token of an event, with what `format` wants of it; its text is added apart. `offset`
  /// counts the characters of a completion's tokens. `scored`: it has a log probability; the first
  /// token of a prompt has none.
  void add_token(const AnswerFormat& format, const wire::TokenEvent& event, bool scored,
                 std::uint64_t& offset);

  [[nodiscard]] const std::string& text() const { return text_; }
  /// Says nothing, so no chunk is needed for it.
  [[nodiscard]] bool empty() const { return empty_; }

  /// Writes "token_ids" and its list.
  void write_token_ids(JsonWriter& json) const;
  /// Writes the value of "logprobs", or null.
  void write_logprobs(const AnswerFormat& format, JsonWriter& json) const;

 private:
  void add_chat_logprob(const wire::TokenEvent& event);
  void add_completion_logprob(const wire::TokenEvent& event, bool scored, std::uint64_t& offset);

  std::string text_;
  std::string token_ids_;
  std::string tokens_;  // of chats: the objects of `content`; of completions: the tokens' text
  std::string token_logprobs_;
  std::string top_logprobs_;
  std::string text_offset_;
  bool empty_ = true;
};

}  // namespace conclave::gateway
