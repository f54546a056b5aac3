#include "tokenize_answer.hpp"

#include "json_writer.hpp"

namespace conclave::gateway {

std::string tokenize_answer(const wire::TokenizeReply& reply, bool token_strings) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("count").number(reply.tokens.size());
  json.key("max_model_len").number(reply.context_length).key("tokens").begin_array();
  for (const std::int32_t token : reply.tokens) json.number(token);
  json.end_array().key("token_strs");
  if (token_strings) {
    json.begin_array();
    for (const std::string& piece : reply.pieces) json.text(piece);
    json.end_array();
  } else {
    json.null();
  }
  json.end_object();
  return body;
}

std::string detokenize_answer(const wire::DetokenizeReply& reply) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("prompt").text(reply.text).end_object();
  return body;
}

}  // namespace conclave::gateway
