// Text from tokens that arrive one at a time. A character may span several tokens; what comes out
// is always whole characters, as early as they are complete. No stop strings here.
#pragma once

#include <string>

#include "conclave/tokenizer/token.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::tokenizer {

/// One per stream, used by one thread; holds at most three bytes back. The tokenizer outlives it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, const DecodeOptions& options = {})
      : tokenizer_(&tokenizer), options_(options), at_start_(options.strip_leading_space) {}

  /// The text that `id` completes; may be empty. Bytes that no further byte can turn into a
  /// character become U+FFFD.
  std::string push(TokenId id);

  /// The end of the stream: U+FFFD for a character that was never completed, else nothing. The
  /// decoder is then as new.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  DecodeOptions options_;
  bool at_start_;
  std::string pending_;  // the beginning of a character, 0 to 3 bytes
};

}  // namespace conclave::tokenizer
