// The tokens of one model: their texts, kinds, scores and roles, as the metadata give them and as
// the well-known texts correct them. It does not know how a text becomes tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/metadata.hpp"
#include "conclave/tokenizer/token.hpp"
#include "flat_map.hpp"

namespace conclave::tokenizer {

enum class Model : std::uint8_t { kByteBpe, kSentencePiece };

/// What a token is, as bits: a control token that the file calls user-defined is both.
enum TokenKind : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 4,
  kUserDefined = 8,
  kUnused = 16,
  kByte = 32,
};

/// Immutable once loaded.
class Vocabulary {
 public:
  /// kCorruptData as Tokenizer::from_metadata; kUnimplemented for other models.
  static base::Result<Vocabulary> load(const gguf::Metadata& metadata);

  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  [[nodiscard]] Model model() const { return model_; }
  [[nodiscard]] std::size_t size() const { return texts_.size(); }
  [[nodiscard]] bool contains(TokenId id) const {
    return id >= 0 && static_cast<std::size_t>(id) < size();
  }

  // For ids of this vocabulary only.
  [[nodiscard]] const std::string& text(TokenId id) const { return texts_[index(id)]; }
  [[nodiscard]] const std::string& piece(TokenId id) const { return pieces_[index(id)]; }
  [[nodiscard]] float score(TokenId id) const { return scores_[index(id)]; }
  [[nodiscard]] bool is(TokenId id, unsigned kinds) const {
    return (kinds_[index(id)] & kinds) != 0;
  }
  /// White space after the token is dropped when the token is found in a text (Phi-3).
  [[nodiscard]] bool strips_right(TokenId id) const {
    return !strips_right_.empty() && strips_right_[index(id)] != 0;
  }

  [[nodiscard]] TokenId find(std::string_view text) const { return by_text_.find(text); }
  /// The byte length of the longest text.
  [[nodiscard]] std::size_t text_bytes_max() const { return text_bytes_max_; }

  [[nodiscard]] const SpecialTokens& special() const { return special_; }
  [[nodiscard]] const std::vector<TokenId>& end_of_generation() const { return end_; }
  [[nodiscard]] bool is_end_of_generation(TokenId id) const;

 private:
  Vocabulary() = default;

  static std::size_t index(TokenId id) { return static_cast<std::size_t>(id); }
  void add_kind(TokenId id, TokenKind kind);

  base::Status load_tokens(const gguf::Metadata& metadata);
  base::Status load_kinds(const gguf::Metadata& metadata);
  base::Status load_scores(const gguf::Metadata& metadata);
  base::Status load_special(const gguf::Metadata& metadata);
  void detect_special_by_text();
  void collect_end_of_generation();
  void apply_model_quirks(const std::string& model_name);
  void build_pieces();

  Model model_ = Model::kByteBpe;
  std::vector<std::string> texts_;
  std::vector<std::string> pieces_;
  std::vector<float> scores_;        // empty for kByteBpe
  std::vector<std::uint8_t> kinds_;  // bits of TokenKind
  std::vector<char> strips_right_;   // empty if no token does
  TextMap by_text_;                  // points into texts_
  std::size_t text_bytes_max_ = 0;
  SpecialTokens special_;
  std::vector<TokenId> end_;  // ascending
};

/// The byte that `<0x0A>` spells; -1 for any other text.
int byte_of_hex_token(std::string_view text);

}  // namespace conclave::tokenizer
