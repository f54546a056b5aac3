// UTF-8 as the tokenizer, the template engine and the JSON edge need it: strict decoding (no
// overlong forms, no surrogates, nothing above U+10FFFF) and encoding. No case mapping here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::base::utf8 {

inline constexpr char32_t kReplacement = 0xFFFD;

struct Decoded {
  char32_t code_point = kReplacement;
  std::size_t length = 0;  // bytes consumed; at least 1 unless the input is empty
  bool valid = false;      // false: `code_point` is U+FFFD and `length` skips the bad prefix
};

/// The code point at the start of `text`. Bad bytes are skipped in the longest prefix that no valid
/// sequence can continue (the Unicode "maximal subpart" rule), one U+FFFD each.
Decoded decode(std::string_view text);

/// Appends the UTF-8 form of a scalar value (not a surrogate, at most U+10FFFF).
void append(std::string& out, char32_t code_point);

/// How many bytes at the end of `text` begin a character that is not complete yet (0 to 3).
std::size_t incomplete_suffix(std::string_view text);

/// True if every byte belongs to a valid sequence.
bool valid(std::string_view text);

/// `text` with every bad sequence replaced by U+FFFD.
std::string sanitize(std::string_view text);

}  // namespace conclave::base::utf8
