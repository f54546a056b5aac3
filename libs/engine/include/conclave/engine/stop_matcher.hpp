// Finds the strings at which a text ends, in text that arrives in pieces: what could still become
// one is held back, so that no piece has to be taken back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::engine {

/// Knuth-Morris-Pratt over each string: O(strings) a byte, and holds back the fewest bytes that
/// there can be. The string whose last byte comes first ends the text, whatever the pieces; among
/// those that end at the same byte the longest. One stream, one thread.
class StopMatcher {
 public:
  /// `stops` are UTF-8 and not empty; without any, text passes as it comes. `include`: the text
  /// ends after the stop string, and nothing is held back.
  StopMatcher(std::span<const std::string> stops, bool include);

  /// Takes the next piece (whole characters) and returns what is certain to be part of the text,
  /// whole characters again. Once matched() it takes and returns nothing.
  std::string push(std::string_view piece);

  /// What was held back, for a text that ends without a stop string.
  std::string flush();

  /// The index of the string that ended the text.
  [[nodiscard]] std::optional<std::size_t> matched() const { return matched_; }

 private:
  struct Automaton {
    std::string text;
    std::vector<std::uint32_t> fallback;  // the longest proper border of each prefix
    std::uint32_t state = 0;              // bytes matched

    bool step(char byte);  // true: the whole string has been seen
  };

  std::vector<Automaton> automata_;
  bool include_;
  std::string held_;
  std::optional<std::size_t> matched_;
};

}  // namespace conclave::engine
