// Tiny vocabularies for tests, the fuzzer and nobody else: metadata as a GGUF file would hold them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "byte_alphabet.hpp"
#include "conclave/gguf/metadata.hpp"
#include "conclave/tokenizer/token.hpp"

namespace conclave::tokenizer::testing_vocabulary {

// Token types of the format.
inline constexpr std::int32_t kTypeNormal = 1;
inline constexpr std::int32_t kTypeUnknown = 2;
inline constexpr std::int32_t kTypeControl = 3;
inline constexpr std::int32_t kTypeUserDefined = 4;
inline constexpr std::int32_t kTypeUnused = 5;
inline constexpr std::int32_t kTypeByte = 6;

/// Collects the arrays; `metadata` turns them into keys.
struct Builder {
  std::string model;
  std::string pre = "qwen2";
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<float> scores;
  std::vector<std::string> merges;

  TokenId add(std::string text, std::int32_t type = kTypeNormal, float score = 0) {
    tokens.push_back(std::move(text));
    types.push_back(type);
    scores.push_back(score);
    return static_cast<TokenId>(tokens.size() - 1);
  }

  /// A merge of two tokens, and the token that it makes.
  TokenId add_merge(const std::string& left, const std::string& right) {
    merges.push_back(left + " " + right);
    return add(left + right);
  }

  [[nodiscard]] gguf::Metadata metadata() const {
    gguf::Metadata out;
    out.set("tokenizer.ggml.model", {model});
    out.set("tokenizer.ggml.tokens", {gguf::Array(tokens)});
    out.set("tokenizer.ggml.token_type", {gguf::Array(types)});
    if (model == "gpt2") {
      out.set("tokenizer.ggml.pre", {pre});
      out.set("tokenizer.ggml.merges", {gguf::Array(merges)});
    } else {
      out.set("tokenizer.ggml.scores", {gguf::Array(scores)});
    }
    return out;
  }
};

/// Byte-level BPE: ids 0..255 are the bytes in order of value; then the merges below; then
/// `<|endoftext|>`, `<|im_start|>`, `<|im_end|>` (control) and a run of eight spaces
/// (user-defined).
inline Builder byte_bpe() {
  Builder builder;
  builder.model = "gpt2";
  for (int byte = 0; byte < 256; ++byte) {
    builder.add(spell_bytes(std::string(1, static_cast<char>(byte))));
  }
  builder.add_merge("h", "e");
  builder.add_merge("l", "l");
  builder.add_merge("he", "ll");
  builder.add_merge("hell", "o");
  builder.add_merge("Ġ", "w");
  builder.add_merge("o", "r");
  builder.add_merge("Ġw", "or");
  builder.add_merge("l", "d");
  builder.add_merge("Ġwor", "ld");
  builder.add_merge("a", "a");
  builder.add_merge("aa", "aa");
  builder.add_merge("Ã", "©");  // é
  builder.add("<|endoftext|>", kTypeControl);
  builder.add("<|im_start|>", kTypeControl);
  builder.add("<|im_end|>", kTypeControl);
  builder.add("        ", kTypeUserDefined);
  return builder;
}

/// SentencePiece: `<unk>`, `<s>`, `</s>`, the 256 bytes (id = 3 + byte), then words by score.
inline Builder sentence_piece() {
  Builder builder;
  builder.model = "llama";
  builder.add("<unk>", kTypeUnknown);
  builder.add("<s>", kTypeControl);
  builder.add("</s>", kTypeControl);
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    builder.add({'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'}, kTypeByte);
  }
  float score = 0;
  for (const char* const word :
       {"▁h", "el", "lo", "▁hel", "▁hello", "▁w", "or", "ld", "▁wor", "▁world", "▁▁",  "▁",
        "h",  "e",  "l",  "o",    "w",      "r",  "d",  "a",  "é",    "aa",     "aaaa"}) {
    builder.add(word, kTypeNormal, score);
    score -= 1;
  }
  builder.add("<|im_end|>", kTypeControl);
  return builder;
}

}  // namespace conclave::tokenizer::testing_vocabulary
