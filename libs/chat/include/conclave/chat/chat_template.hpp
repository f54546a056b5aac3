// A model file's own chat template: messages in, prompt text out. Does not tokenize, and knows no
// model family: what differs between them is in their templates.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/chat/chat_request.hpp"
#include "conclave/gguf/metadata.hpp"

namespace conclave::chat {

/// Texts of the vocabulary's special tokens; empty if it has none. Templates print them.
struct SpecialTokens {
  std::string bos;
  std::string eos;
  std::string unk;
  std::string pad;
};

/// The templates of one model. Immutable; `render` may run on any number of threads. Renderings are
/// bounded by the defaults of jinja::RenderOptions. Cheap to copy.
class ChatTemplate {
 public:
  /// Reads `tokenizer.chat_template`, and `tokenizer.chat_template.<name>` for each name listed in
  /// `tokenizer.chat_templates`. kNotFound: the file has no chat template; kCorruptData: a key has
  /// another type, or a template does not parse (the message has its line and column).
  static base::Result<ChatTemplate> from_metadata(const gguf::Metadata& metadata,
                                                  SpecialTokens tokens);

  /// One template given as text, for files that have none. kCorruptData if it does not parse.
  static base::Result<ChatTemplate> from_source(std::string_view source, SpecialTokens tokens);

  /// The prompt. It already holds the special tokens that the template prints, so tokenize it with
  /// special tokens parsed and without adding any. Errors:
  ///  - kInvalidArgument: the request has a wrong shape, or the template refused it (roles that do
  ///    not alternate, say); the message is for the client;
  ///  - kNotFound: no template called `template_name`;
  ///  - kFailedPrecondition: the template cannot deal with this request or is broken;
  ///  - kOverloaded: the rendering passed a limit.
  [[nodiscard]] base::Result<std::string> render(const ChatRequest& request) const;

  /// Names that `template_name` may have; "default" is the unnamed template.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  struct Variant;

  explicit ChatTemplate(SpecialTokens tokens) : tokens_(std::move(tokens)) {}

  base::Status add(std::string name, std::string_view source);
  [[nodiscard]] base::Result<const Variant*> choose(const ChatRequest& request) const;
  [[nodiscard]] base::Result<std::string> render_with(const Variant& variant,
                                                      const ChatRequest& request) const;
  [[nodiscard]] bool shows_content(const Variant& variant, std::string_view text) const;
  void learn_content_rules(Variant& variant) const;

  SpecialTokens tokens_;
  std::map<std::string, std::shared_ptr<const Variant>, std::less<>> variants_;
};

}  // namespace conclave::chat
