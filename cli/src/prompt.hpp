// From what the user typed to the tokens of a prompt.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/chat/chat_template.hpp"
#include "conclave/engine/local_model.hpp"

namespace conclave::cli {

/// The text as it is: special tokens in it are parsed, BOS is added as the vocabulary asks.
base::Result<std::vector<std::int32_t>> plain_prompt(const engine::LocalModel& model,
                                                     const std::string& text);

/// Prompts by the model's own chat template. The model must outlive it.
class ChatPrompts {
 public:
  /// kNotFound: the file has no template; kCorruptData: it does not parse.
  static base::Result<ChatPrompts> create(const engine::LocalModel& model);

  /// The tokens of a user's message, after a system message unless that is empty.
  [[nodiscard]] base::Result<std::vector<std::int32_t>> render(const std::string& system,
                                                               const std::string& user) const;

 private:
  ChatPrompts(const tokenizer::Tokenizer& tokenizer, chat::ChatTemplate parsed)
      : tokenizer_(tokenizer), template_(std::move(parsed)) {}

  const tokenizer::Tokenizer& tokenizer_;
  chat::ChatTemplate template_;
};

}  // namespace conclave::cli
