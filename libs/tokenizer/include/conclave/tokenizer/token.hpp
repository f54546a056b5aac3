// The id of a token: its index in the vocabulary of one model. Ids of two models do not mix.
#pragma once

#include <cstdint>

namespace conclave::tokenizer {

using TokenId = std::int32_t;

/// "There is no such token", wherever a TokenId may be absent.
inline constexpr TokenId kNoToken = -1;

/// The tokens that a vocabulary gives a role to; kNoToken where it has none.
struct SpecialTokens {
  TokenId bos = kNoToken;  // begins a text
  TokenId eos = kNoToken;  // ends a text
  TokenId eot = kNoToken;  // ends a turn of a chat
  TokenId eom = kNoToken;  // ends a message that a tool's answer follows
  TokenId unknown = kNoToken;
  TokenId separator = kNoToken;
  TokenId padding = kNoToken;
  TokenId mask = kNoToken;
  // Fill-in-the-middle: what precedes and follows the gap, the gap itself, and the marks of
  // padding, repository and file that code models write instead of an end.
  TokenId fim_prefix = kNoToken;
  TokenId fim_suffix = kNoToken;
  TokenId fim_middle = kNoToken;
  TokenId fim_padding = kNoToken;
  TokenId fim_repository = kNoToken;
  TokenId fim_separator = kNoToken;
};

}  // namespace conclave::tokenizer
