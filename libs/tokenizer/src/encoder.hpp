// Plain text (no special tokens in it) to token ids; one implementation per vocabulary model.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/tokenizer/token.hpp"

namespace conclave::tokenizer {

/// Immutable; any thread. Refers to the vocabulary that it was made from.
class Encoder {
 public:
  /// The buffers of one call of encode, reused for each fragment of its text. One thread.
  class Workspace {
   public:
    virtual ~Workspace() = default;
  };

  virtual ~Encoder() = default;

  [[nodiscard]] virtual std::unique_ptr<Workspace> make_workspace(std::size_t text_bytes) const = 0;

  /// Appends the tokens of `text`, which stays in place until the workspace is gone.
  /// `after_special`: a special token, or nothing, precedes it.
  virtual base::Status encode(std::string_view text, bool after_special, Workspace& workspace,
                              std::vector<TokenId>& out) const = 0;
};

}  // namespace conclave::tokenizer
