// The alphabet of byte-level BPE: each byte is written as one printable character, so that a
// vocabulary is a list of readable strings. The printable bytes of Latin-1 stand for themselves,
// the other 68 take U+0100 onwards in order of their value (space: U+0120 'Ġ', newline: U+010A).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace conclave::tokenizer {

/// The character that stands for each byte.
const std::array<char32_t, 256>& byte_alphabet();

/// The bytes that `text` writes; nothing if a character of it is outside of the alphabet.
std::optional<std::string> bytes_of(std::string_view text);

/// `bytes` in the alphabet.
std::string spell_bytes(std::string_view bytes);

}  // namespace conclave::tokenizer
