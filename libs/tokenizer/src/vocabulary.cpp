#include "vocabulary.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "byte_alphabet.hpp"

namespace conclave::tokenizer {
namespace {

using base::ErrorCode;
using base::fail;

constexpr const char* kModelKey = "tokenizer.ggml.model";
constexpr const char* kTokensKey = "tokenizer.ggml.tokens";
constexpr const char* kTypesKey = "tokenizer.ggml.token_type";
constexpr const char* kScoresKey = "tokenizer.ggml.scores";

// The largest open vocabularies hold 262144 tokens; four million leave room and keep every table
// index in 32 bits.
constexpr std::size_t kTokensMax = std::size_t{1} << 22;

base::Error corrupt(const char* key, const std::string& what) {
  return {ErrorCode::kCorruptData, std::string(key) + ": " + what};
}

std::uint8_t kind_of_type(std::int32_t type) {
  switch (type) {
    case 1:
      return kNormal;
    case 2:
      return kUnknown;
    case 3:
      return kControl;
    case 4:
      return kUserDefined;
    case 5:
      return kUnused;
    case 6:
      return kByte;
    default:
      return 0;  // undefined: stands for nothing, as an unused one
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

std::string with_spaces(std::string_view text) {
  constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581, how SentencePiece writes a space
  std::string out;
  while (true) {
    const std::size_t at = text.find(kMark);
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    out += ' ';
    text.remove_prefix(at + kMark.size());
  }
}

}  // namespace

int byte_of_hex_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = hex_digit(text[3]);
  const int low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

base::Result<Vocabulary> Vocabulary::load(const gguf::Metadata& metadata) {
  Vocabulary vocabulary;
  CONCLAVE_TRY(const std::string model, metadata.get<std::string>(kModelKey));
  if (model == "gpt2") {
    vocabulary.model_ = Model::kByteBpe;
  } else if (model == "llama") {
    vocabulary.model_ = Model::kSentencePiece;
  } else {
    return fail(ErrorCode::kUnimplemented, std::string(kModelKey) + ": vocabulary model '" + model +
                                               "' is not supported (gpt2 and llama are)");
  }
  CONCLAVE_TRY_VOID(vocabulary.load_tokens(metadata));
  CONCLAVE_TRY_VOID(vocabulary.load_kinds(metadata));
  CONCLAVE_TRY_VOID(vocabulary.load_scores(metadata));
  CONCLAVE_TRY_VOID(vocabulary.load_special(metadata));
  vocabulary.detect_special_by_text();
  vocabulary.collect_end_of_generation();
  CONCLAVE_TRY(const std::string name, metadata.get_or<std::string>("general.name", ""));
  vocabulary.apply_model_quirks(name);
  vocabulary.build_pieces();
  return vocabulary;
}

base::Status Vocabulary::load_tokens(const gguf::Metadata& metadata) {
  CONCLAVE_TRY(const std::vector<std::string>* tokens, metadata.strings(kTokensKey));
  if (tokens->empty()) return fail(corrupt(kTokensKey, "no tokens"));
  if (tokens->size() > kTokensMax) {
    return fail(corrupt(kTokensKey, std::to_string(tokens->size()) + " tokens, at most " +
                                        std::to_string(kTokensMax) + " are supported"));
  }
  texts_ = *tokens;
  by_text_ = TextMap(texts_.size());
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    const std::string& text = texts_[i];
    if (text.empty()) return fail(corrupt(kTokensKey, "token " + std::to_string(i) + " is empty"));
    if (text.size() > std::numeric_limits<std::uint16_t>::max()) {
      return fail(corrupt(kTokensKey, "token " + std::to_string(i) + " is " +
                                          std::to_string(text.size()) + " bytes long"));
    }
    const TokenId same = by_text_.insert(text, static_cast<TokenId>(i));
    if (same != kNoToken) {
      return fail(corrupt(kTokensKey, "tokens " + std::to_string(same) + " and " +
                                          std::to_string(i) + " are the same"));
    }
    text_bytes_max_ = std::max(text_bytes_max_, text.size());
  }
  return {};
}

base::Status Vocabulary::load_kinds(const gguf::Metadata& metadata) {
  kinds_.assign(size(), kNormal);
  if (!metadata.contains(kTypesKey)) return {};
  CONCLAVE_TRY(const std::vector<std::int32_t> types, metadata.get_array<std::int32_t>(kTypesKey));
  if (types.size() != size()) {
    return fail(corrupt(kTypesKey, std::to_string(types.size()) + " types for " +
                                       std::to_string(size()) + " tokens"));
  }
  std::transform(types.begin(), types.end(), kinds_.begin(), kind_of_type);
  return {};
}

base::Status Vocabulary::load_scores(const gguf::Metadata& metadata) {
  // Byte-level BPE ranks its merges; scores that such a file may carry mean nothing.
  if (model_ == Model::kByteBpe) return {};
  CONCLAVE_TRY(scores_, metadata.get_array<float>(kScoresKey));
  if (scores_.size() != size()) {
    return fail(corrupt(kScoresKey, std::to_string(scores_.size()) + " scores for " +
                                        std::to_string(size()) + " tokens"));
  }
  for (std::size_t i = 0; i < scores_.size(); ++i) {
    if (!std::isfinite(scores_[i])) {
      return fail(corrupt(kScoresKey, "score " + std::to_string(i) + " is not a number"));
    }
  }
  return {};
}

void Vocabulary::build_pieces() {
  pieces_.resize(size());
  for (std::size_t i = 0; i < size(); ++i) {
    const std::string& text = texts_[i];
    const unsigned kinds = kinds_[i];
    if ((kinds & (kControl | kUnknown | kUserDefined)) != 0) {
      pieces_[i] = text;
    } else if ((kinds & kByte) != 0) {
      const int byte = byte_of_hex_token(text);
      pieces_[i] = byte < 0 ? text : std::string(1, static_cast<char>(byte));
    } else if ((kinds & kNormal) != 0 && model_ == Model::kSentencePiece) {
      pieces_[i] = with_spaces(text);
    } else if ((kinds & kNormal) != 0) {
      pieces_[i] = bytes_of(text).value_or(text);
    }
  }
}

void Vocabulary::add_kind(TokenId id, TokenKind kind) {
  kinds_[index(id)] = static_cast<std::uint8_t>(kinds_[index(id)] | kind);
}

bool Vocabulary::is_end_of_generation(TokenId id) const {
  return std::binary_search(end_.begin(), end_.end(), id);
}

}  // namespace conclave::tokenizer
