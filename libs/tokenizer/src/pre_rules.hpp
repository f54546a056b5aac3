// The table of pre-tokenizer rules: how byte-level BPE cuts a text into words before it merges, by
// the name that a file gives in `tokenizer.ggml.pre`.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace conclave::tokenizer {

/// One step of a rule. Each applies within the pieces that the steps before it made; what a step
/// does not match stays together as a piece.
struct PreStep {
  /// A PCRE2 pattern (UTF, UCP) whose matches become pieces. `\s` and `\S` mean Unicode white
  /// space.
  std::string_view pattern;
};

struct PreRule {
  std::string_view name;
  std::span<const PreStep> steps;
  /// A word that is a token is taken whole, even where the merges would not lead to it.
  bool ignore_merges = false;
  /// BOS is added when the file does not say.
  bool add_bos = false;
};

/// All rules, for tests and messages.
std::span<const PreRule> pre_rules();

/// nullptr if no rule has this name.
const PreRule* find_pre_rule(std::string_view name);

}  // namespace conclave::tokenizer
