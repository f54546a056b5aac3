// Text to token ids and back, by the rules that a GGUF file carries in its own metadata.
// Two families: byte-level BPE (`gpt2`) and SentencePiece-style BPE by scores (`llama`). Ids are
// those of llama.cpp for the same file. Chat templates are not applied here: see libs/jinja.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/metadata.hpp"
#include "conclave/tokenizer/token.hpp"

namespace conclave::tokenizer {

struct LoadOptions {
  /// Split text by this rule instead of the one that `tokenizer.ggml.pre` names. For a file whose
  /// name is missing or unknown, when the operator knows which known rule its model was trained
  /// with. Empty: as the file says.
  std::string pre_tokenizer;
};

struct EncodeOptions {
  /// True: the texts of control tokens (`<|im_start|>`) in `text` become those tokens. Only for
  /// text that we wrote or rendered ourselves: in a user's text it is an injection. User-defined
  /// tokens (runs of spaces, say) are found in either case.
  bool parse_special = false;
  /// Add BOS and EOS as the vocabulary asks. Off for text that continues another.
  bool add_special = true;
  /// Longer text is kInvalidArgument. 16 MiB is four times the longest context of an open model
  /// (1 Mi tokens) at about four bytes a token; at most 1 GiB.
  std::size_t text_bytes_max = std::size_t{16} << 20;
};

struct DecodeOptions {
  /// Leave out control and unknown tokens.
  bool skip_special = true;
  /// SentencePiece vocabularies put a space before the first word; true takes it away again. Off
  /// when the ids continue a text.
  bool strip_leading_space = true;
};

/// Immutable after from_metadata and safe to use from any thread; movable. All memory is owned, the
/// metadata may go. Memory: about 100 bytes a token plus 24 a merge.
class Tokenizer {
 public:
  /// kCorruptData: keys missing, of a wrong type or contradicting each other (the message names the
  /// key). kUnimplemented: a vocabulary model or a `tokenizer.ggml.pre` that we do not know, by
  /// name: a wrong split would answer, but worse, and nobody would see why.
  static base::Result<Tokenizer> from_metadata(const gguf::Metadata& metadata,
                                               const LoadOptions& options = {});

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// The ids of `text`. Bad UTF-8 becomes U+FFFD, one per byte, in byte-level BPE; SentencePiece
  /// vocabularies keep the bytes. A BOS that the text itself spells is not taken away: the result
  /// then starts with two. O(n log n) in the longest word, O(n) otherwise. kInvalidArgument: too
  /// long, or text on which a splitting pattern exceeds its work limit.
  [[nodiscard]] base::Result<std::vector<TokenId>> encode(std::string_view text,
                                                          const EncodeOptions& options = {}) const;

  /// The bytes of the tokens, joined; not always valid UTF-8 (see StreamDecoder). Ids outside of
  /// the vocabulary give nothing.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids,
                                   const DecodeOptions& options = {}) const;

  /// The bytes that a token stands for: one byte for a byte token, the text itself for a special
  /// one, nothing for an unused one or an id outside of the vocabulary. Lives as long as *this.
  [[nodiscard]] std::string_view piece(TokenId id) const;

  /// The token as the vocabulary spells it (`Ġthe`, `▁the`, `<0x0A>`); empty outside of it.
  [[nodiscard]] std::string_view token_text(TokenId id) const;

  /// The token that the vocabulary spells so; kNoToken if none.
  [[nodiscard]] TokenId find(std::string_view token_text) const;

  [[nodiscard]] std::size_t vocab_size() const;
  [[nodiscard]] const SpecialTokens& special() const;

  /// True for every token after which a model has finished its turn: EOS, EOT, EOM and the
  /// well-known texts of chat models (`<|im_end|>`, `<|eot_id|>`, `<|return|>` ..).
  [[nodiscard]] bool is_end_of_generation(TokenId id) const;
  /// All of them, ascending.
  [[nodiscard]] std::span<const TokenId> end_of_generation() const;

  [[nodiscard]] bool is_control(TokenId id) const;
  [[nodiscard]] bool is_user_defined(TokenId id) const;
  [[nodiscard]] bool is_byte(TokenId id) const;
  [[nodiscard]] bool is_unknown(TokenId id) const;

  /// What encode adds when asked to.
  [[nodiscard]] bool adds_bos() const;
  [[nodiscard]] bool adds_eos() const;
  /// A space is put before the first word (SentencePiece).
  [[nodiscard]] bool adds_space_prefix() const;

  /// The rule that splits text, as the table names it (`qwen2`); empty for SentencePiece.
  [[nodiscard]] std::string_view pre_tokenizer() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);
  std::unique_ptr<const State> state_;
};

}  // namespace conclave::tokenizer
