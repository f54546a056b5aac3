#include "piece.hpp"

#include <set>

#include "conclave/base/utf8.hpp"

namespace conclave::gateway {
namespace {

void separate(std::string& list) {
  if (!list.empty()) list.push_back(',');
}

// Characters as clients see them: bytes that are none are one U+FFFD each, as in the JSON.
std::uint64_t count_characters(std::string_view text) {
  std::uint64_t count = 0;
  while (!text.empty()) {
    text.remove_prefix(base::utf8::decode(text).length);
    ++count;
  }
  return count;
}

// The fields that a token and its alternatives have in chats.
void write_chat_token(JsonWriter& json, std::string_view piece, float logprob) {
  json.key("token").text(piece).key("logprob").number(logprob).key("bytes").begin_array();
  for (const char byte : piece)
    json.number(static_cast<unsigned>(static_cast<unsigned char>(byte)));
  json.end_array();
}

}  // namespace

void append_token_id(std::string& ids, std::int32_t token) {
  separate(ids);
  ids += std::to_string(token);
}

void Piece::add_token(const AnswerFormat& format, const wire::TokenEvent& event, bool scored,
                      std::uint64_t& offset) {
  if (format.return_token_ids) append_token_id(token_ids_, event.token);
  if (format.logprobs) {
    if (format.chat) {
      add_chat_logprob(event);
    } else {
      add_completion_logprob(event, scored, offset);
    }
  }
  empty_ = empty_ && !format.return_token_ids && !format.logprobs;
}

void Piece::add_chat_logprob(const wire::TokenEvent& event) {
  separate(tokens_);
  JsonWriter json(tokens_);
  json.begin_object();
  write_chat_token(json, event.piece, event.logprob);
  json.key("top_logprobs").begin_array();
  for (const wire::TokenChoice& other : event.top) {
    json.begin_object();
    write_chat_token(json, other.piece, other.logprob);
    json.end_object();
  }
  json.end_array().end_object();
}

void Piece::add_completion_logprob(const wire::TokenEvent& event, bool scored,
                                   std::uint64_t& offset) {
  for (std::string* list : {&tokens_, &token_logprobs_, &top_logprobs_, &text_offset_}) {
    separate(*list);
  }
  append_json_string(tokens_, event.piece);
  text_offset_ += std::to_string(offset);
  offset += count_characters(event.piece);
  if (!scored) {
    token_logprobs_ += "null";
    top_logprobs_ += "null";
    return;
  }
  append_json_float(token_logprobs_, event.logprob);
  // Keys are texts: of tokens that look alike, the likeliest counts.
  std::set<std::string> seen;
  JsonWriter json(top_logprobs_);
  const auto write = [&](std::string_view piece, float logprob) {
    const auto [key, is_new] = seen.insert(base::utf8::sanitize(piece));
    if (is_new) json.key(*key).number(logprob);
  };
  json.begin_object();
  for (const wire::TokenChoice& other : event.top) write(other.piece, other.logprob);
  write(event.piece, event.logprob);  // it is always there
  json.end_object();
}

void Piece::write_token_ids(JsonWriter& json) const { json.key("token_ids").list(token_ids_); }

void Piece::write_logprobs(const AnswerFormat& format, JsonWriter& json) const {
  if (!format.logprobs) {
    json.null();
    return;
  }
  json.begin_object();
  if (format.chat) {
    json.key("content").list(tokens_);
  } else {
    json.key("text_offset").list(text_offset_);
    json.key("token_logprobs").list(token_logprobs_);
    json.key("tokens").list(tokens_);
    json.key("top_logprobs").list(top_logprobs_);
  }
  json.end_object();
}

}  // namespace conclave::gateway
