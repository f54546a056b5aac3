#include "conclave/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "bpe_encoder.hpp"
#include "encoder.hpp"
#include "pre_rules.hpp"
#include "render.hpp"
#include "special_splitter.hpp"
#include "spm_encoder.hpp"
#include "vocabulary.hpp"

namespace conclave::tokenizer {
namespace {

using base::ErrorCode;
using base::fail;

// Offsets into a text are 32 bits wide, and SentencePiece makes three bytes of a space.
constexpr std::size_t kTextBytesHardMax = std::size_t{1} << 30;

std::vector<TokenId> tokens_of(const Vocabulary& vocabulary, bool with_control) {
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const bool control = vocabulary.is(id, kControl | kUnknown);
    if (control ? with_control : vocabulary.is(id, kUserDefined)) ids.push_back(id);
  }
  return ids;
}

base::Result<const PreRule*> rule_for(const gguf::Metadata& metadata, const LoadOptions& options) {
  constexpr const char* kPreKey = "tokenizer.ggml.pre";
  // Files older than the key were all made for llama.cpp's first rule, which is now "default".
  CONCLAVE_TRY(std::string name, metadata.get_or<std::string>(kPreKey, "default"));
  if (!options.pre_tokenizer.empty()) name = options.pre_tokenizer;
  const PreRule* rule = find_pre_rule(name);
  if (rule == nullptr) {
    return fail(ErrorCode::kUnimplemented, std::string(kPreKey) + ": pre-tokenizer '" + name +
                                               "' is not known; name a known one that fits");
  }
  return rule;
}

}  // namespace

struct Tokenizer::State {
  explicit State(Vocabulary v)
      : vocabulary(std::move(v)),
        all_special(vocabulary, tokens_of(vocabulary, true)),
        user_defined(vocabulary, tokens_of(vocabulary, false)) {}

  const Vocabulary vocabulary;
  const SpecialSplitter all_special;
  const SpecialSplitter user_defined;
  std::unique_ptr<const Encoder> encoder;
  const PreRule* rule = nullptr;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;
};

Tokenizer::Tokenizer(std::unique_ptr<const State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

base::Result<Tokenizer> Tokenizer::from_metadata(const gguf::Metadata& metadata,
                                                 const LoadOptions& options) {
  CONCLAVE_TRY(Vocabulary vocabulary, Vocabulary::load(metadata));
  auto state = std::make_unique<State>(std::move(vocabulary));
  const bool sentence_piece = state->vocabulary.model() == Model::kSentencePiece;
  if (sentence_piece) {
    CONCLAVE_TRY(state->add_space_prefix,
                 metadata.get_or<bool>("tokenizer.ggml.add_space_prefix", true));
    state->encoder = std::make_unique<SpmEncoder>(state->vocabulary, state->add_space_prefix);
  } else {
    CONCLAVE_TRY(state->rule, rule_for(metadata, options));
    CONCLAVE_TRY(state->encoder, BpeEncoder::create(state->vocabulary, metadata, *state->rule));
  }
  const SpecialTokens& special = state->vocabulary.special();
  const bool bos_by_default = sentence_piece || (state->rule->add_bos && special.bos != kNoToken);
  CONCLAVE_TRY(state->add_bos,
               metadata.get_or<bool>("tokenizer.ggml.add_bos_token", bos_by_default));
  CONCLAVE_TRY(state->add_eos, metadata.get_or<bool>("tokenizer.ggml.add_eos_token", false));
  if ((state->add_bos && special.bos == kNoToken) || (state->add_eos && special.eos == kNoToken)) {
    return fail(ErrorCode::kCorruptData,
                state->add_bos && special.bos == kNoToken
                    ? "tokenizer.ggml.add_bos_token: there is no BOS token"
                    : "tokenizer.ggml.add_eos_token: there is no EOS token");
  }
  return Tokenizer(std::move(state));
}

base::Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text,
                                                     const EncodeOptions& options) const {
  const std::size_t limit = std::min(options.text_bytes_max, kTextBytesHardMax);
  if (text.size() > limit) {
    return fail(ErrorCode::kInvalidArgument, "text of " + std::to_string(text.size()) +
                                                 " bytes, at most " + std::to_string(limit));
  }
  const State& state = *state_;
  std::vector<TokenId> ids;
  // English text has about four bytes a token; a guess that saves most of the growing.
  ids.reserve(text.size() / 4 + 8);
  if (options.add_special && state.add_bos) ids.push_back(state.vocabulary.special().bos);
  const auto& splitter = options.parse_special ? state.all_special : state.user_defined;
  const auto workspace = state.encoder->make_workspace(text.size());
  bool after_special = true;
  for (const Fragment& fragment : splitter.split(text)) {
    if (fragment.id != kNoToken) {
      ids.push_back(fragment.id);
    } else {
      CONCLAVE_TRY_VOID(state.encoder->encode(fragment.text, after_special, *workspace, ids));
    }
    after_special = fragment.id != kNoToken;
  }
  if (options.add_special && state.add_eos) ids.push_back(state.vocabulary.special().eos);
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, const DecodeOptions& options) const {
  std::string text;
  text.reserve(ids.size() * 4);
  bool at_start = options.strip_leading_space;
  for (const TokenId id : ids) text += render(*this, id, options, at_start);
  return text;
}

std::string_view Tokenizer::piece(TokenId id) const {
  if (!state_->vocabulary.contains(id)) return {};
  return state_->vocabulary.piece(id);
}

std::string_view Tokenizer::token_text(TokenId id) const {
  if (!state_->vocabulary.contains(id)) return {};
  return state_->vocabulary.text(id);
}

TokenId Tokenizer::find(std::string_view token_text) const {
  return state_->vocabulary.find(token_text);
}

std::size_t Tokenizer::vocab_size() const { return state_->vocabulary.size(); }

const SpecialTokens& Tokenizer::special() const { return state_->vocabulary.special(); }

bool Tokenizer::is_end_of_generation(TokenId id) const {
  return state_->vocabulary.is_end_of_generation(id);
}

std::span<const TokenId> Tokenizer::end_of_generation() const {
  return state_->vocabulary.end_of_generation();
}

bool Tokenizer::is_control(TokenId id) const {
  return state_->vocabulary.contains(id) && state_->vocabulary.is(id, kControl);
}

bool Tokenizer::is_user_defined(TokenId id) const {
  return state_->vocabulary.contains(id) && state_->vocabulary.is(id, kUserDefined);
}

bool Tokenizer::is_byte(TokenId id) const {
  return state_->vocabulary.contains(id) && state_->vocabulary.is(id, kByte);
}

bool Tokenizer::is_unknown(TokenId id) const {
  return state_->vocabulary.contains(id) && state_->vocabulary.is(id, kUnknown);
}

bool Tokenizer::adds_bos() const { return state_->add_bos; }
bool Tokenizer::adds_eos() const { return state_->add_eos; }
bool Tokenizer::adds_space_prefix() const { return state_->add_space_prefix; }

std::string_view Tokenizer::pre_tokenizer() const {
  return state_->rule == nullptr ? std::string_view() : state_->rule->name;
}

}  // namespace conclave::tokenizer
