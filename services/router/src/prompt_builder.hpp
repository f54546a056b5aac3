// From what a client sent to the tokens of a prompt, by the model's own tokenizer and chat
// template.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/chat/chat_template.hpp"
#include "conclave/gguf/metadata.hpp"
#include "conclave/tokenizer/tokenizer.hpp"
#include "conclave/wire/inference.hpp"

namespace conclave::router {

/// Immutable; any thread. The tokenizer must outlive it.
class PromptBuilder {
 public:
  /// A file without a chat template is fine: chats are then refused. kCorruptData: it has one that
  /// does not parse.
  static base::Result<PromptBuilder> create(const gguf::Metadata& metadata,
                                            const tokenizer::Tokenizer& tokenizer);

  /// The tokens of a prompt. `now` is what a template may print as today. kInvalidArgument: not the
  /// JSON of a chat, or the tokenizer or the template refuses it; kFailedPrecondition: the model
  /// has no chat template, or it cannot deal with this conversation; kOverloaded: a rendering
  /// limit.
  [[nodiscard]] base::Result<std::vector<std::int32_t>> tokens(wire::PromptKind kind,
                                                               const std::string& text,
                                                               std::chrono::sys_seconds now) const;

  /// Plain text with the given options (POST /tokenize).
  [[nodiscard]] base::Result<std::vector<std::int32_t>> encode(std::string_view text,
                                                               bool add_special,
                                                               bool parse_special) const;

 private:
  PromptBuilder(const tokenizer::Tokenizer& tokenizer,
                std::optional<chat::ChatTemplate> chat_template)
      : tokenizer_(tokenizer), template_(std::move(chat_template)) {}

  [[nodiscard]] base::Result<std::string> render(const std::string& body,
                                                 std::chrono::sys_seconds now) const;

  const tokenizer::Tokenizer& tokenizer_;
  std::optional<chat::ChatTemplate> template_;
};

}  // namespace conclave::router
