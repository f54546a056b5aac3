// Byte-level BPE: cut into words, look each up or merge its bytes.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bpe_merger.hpp"
#include "conclave/gguf/metadata.hpp"
#include "encoder.hpp"
#include "pre_rules.hpp"
#include "pre_tokenizer.hpp"
#include "vocabulary.hpp"

namespace conclave::tokenizer {

class BpeEncoder final : public Encoder {
 public:
  /// kCorruptData for merges that contradict the tokens.
  static base::Result<std::unique_ptr<const Encoder>> create(const Vocabulary& vocabulary,
                                                             const gguf::Metadata& metadata,
                                                             const PreRule& rule);

  [[nodiscard]] std::unique_ptr<Workspace> make_workspace(std::size_t text_bytes) const override;
  base::Status encode(std::string_view text, bool after_special, Workspace& workspace,
                      std::vector<TokenId>& out) const override;

 private:
  struct BpeWorkspace;

  BpeEncoder(const Vocabulary& vocabulary, PreTokenizer pre_tokenizer, BpeMerger merger,
             bool ignore_merges);
  void encode_word(std::string_view word, BpeWorkspace& workspace, std::vector<TokenId>& out) const;

  PreTokenizer pre_tokenizer_;
  BpeMerger merger_;
  std::array<TokenId, 256> byte_tokens_{};
  // With ignore_merges only: the bytes of each token, and the way back.
  bool ignore_merges_;
  std::vector<std::string> token_bytes_;
  TextMap by_bytes_;
};

}  // namespace conclave::tokenizer
