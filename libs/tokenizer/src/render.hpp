// What one token adds to a text: the rule that decode and StreamDecoder share.
#pragma once

#include <string_view>

#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::tokenizer {

/// `at_start` is true until a token that is not special has been rendered.
inline std::string_view render(const Tokenizer& tokenizer, TokenId id, const DecodeOptions& options,
                               bool& at_start) {
  const bool special = tokenizer.is_control(id) || tokenizer.is_unknown(id);
  if (special && options.skip_special) return {};
  std::string_view bytes = tokenizer.piece(id);
  if (special || !at_start) return bytes;
  at_start = false;
  if (tokenizer.adds_space_prefix() && bytes.starts_with(' ')) bytes.remove_prefix(1);
  return bytes;
}

}  // namespace conclave::tokenizer
