// A setting that must not be printed: keys, tokens, passwords.
#pragma once

#include <string>
#include <utility>

namespace conclave::config {

/// Has no printing operator on purpose: whoever needs the text says so with reveal().
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}

  [[nodiscard]] const std::string& reveal() const { return text_; }
  [[nodiscard]] bool empty() const { return text_.empty(); }

 private:
  std::string text_;
};

}  // namespace conclave::config
