// SentencePiece-style BPE: characters are joined into longer tokens, the one with the highest score
// first; what is no token is written as bytes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "conclave/gguf/metadata.hpp"
#include "encoder.hpp"
#include "vocabulary.hpp"

namespace conclave::tokenizer {

class SpmEncoder final : public Encoder {
 public:
  SpmEncoder(const Vocabulary& vocabulary, bool add_space_prefix);

  [[nodiscard]] std::unique_ptr<Workspace> make_workspace(std::size_t text_bytes) const override;
  base::Status encode(std::string_view text, bool after_special, Workspace& workspace,
                      std::vector<TokenId>& out) const override;

 private:
  struct SpmWorkspace;

  void encode_word(std::string_view word, SpmWorkspace& workspace, std::vector<TokenId>& out) const;
  void push_pair(std::string_view word, std::int32_t left, SpmWorkspace& workspace) const;
  void append_bytes(std::string_view bytes, std::vector<TokenId>& out) const;

  const Vocabulary* vocabulary_;
  bool add_space_prefix_;
  // No token has the mark of a space anywhere but at its start, so no token spans two words and
  // each word can be encoded by itself, with the same result and less work.
  bool words_are_independent_ = true;
  std::array<TokenId, 256> byte_tokens_{};
};

}  // namespace conclave::tokenizer
