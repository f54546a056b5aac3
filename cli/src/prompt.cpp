#include "prompt.hpp"

#include <chrono>

#include "conclave/chat/chat_template.hpp"

namespace conclave::cli {

base::Result<std::vector<std::int32_t>> plain_prompt(const engine::LocalModel& model,
                                                     const std::string& text) {
  return model.tokenizer().encode(text, {.parse_special = true});
}

base::Result<ChatPrompts> ChatPrompts::create(const engine::LocalModel& model) {
  const tokenizer::Tokenizer& tokenizer = model.tokenizer();
  const auto text = [&](tokenizer::TokenId id) { return std::string(tokenizer.token_text(id)); };
  const tokenizer::SpecialTokens& special = tokenizer.special();
  CONCLAVE_TRY(chat::ChatTemplate parsed,
               chat::ChatTemplate::from_metadata(model.file().metadata(),
                                                 {text(special.bos), text(special.eos),
                                                  text(special.unknown), text(special.padding)}));
  return ChatPrompts(tokenizer, std::move(parsed));
}

base::Result<std::vector<std::int32_t>> ChatPrompts::render(const std::string& system,
                                                            const std::string& user) const {
  chat::ChatRequest request;
  const auto add = [&](const char* role, const std::string& content) {
    request.messages.push_back(boost::json::object{{"role", role}, {"content", content}});
  };
  if (!system.empty()) add("system", system);
  add("user", user);
  request.now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  CONCLAVE_TRY(const std::string text, template_.render(request));
  // The template prints BOS itself where the model wants one.
  return tokenizer_.encode(text, {.parse_special = true, .add_special = false});
}

}  // namespace conclave::cli
