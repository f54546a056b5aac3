// Which tokens have a role. Files name some by key; for the others there is only the text, so the
// well-known ones are listed here. The lists follow llama.cpp (src/llama-vocab.cpp), because files
// are published against its reading of them.
#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <string_view>

#include "vocabulary.hpp"

namespace conclave::tokenizer {
namespace {

using base::ErrorCode;
using base::fail;

struct RoleKey {
  const char* key;
  TokenId SpecialTokens::*role;
};

// Later rows win: the last three are old names of keys above.
constexpr RoleKey kRoleKeys[] = {
    {"tokenizer.ggml.prefix_token_id", &SpecialTokens::fim_prefix},
    {"tokenizer.ggml.suffix_token_id", &SpecialTokens::fim_suffix},
    {"tokenizer.ggml.middle_token_id", &SpecialTokens::fim_middle},
    {"tokenizer.ggml.bos_token_id", &SpecialTokens::bos},
    {"tokenizer.ggml.eos_token_id", &SpecialTokens::eos},
    {"tokenizer.ggml.eot_token_id", &SpecialTokens::eot},
    {"tokenizer.ggml.eom_token_id", &SpecialTokens::eom},
    {"tokenizer.ggml.unknown_token_id", &SpecialTokens::unknown},
    {"tokenizer.ggml.seperator_token_id", &SpecialTokens::separator},  // spelt so in the format
    {"tokenizer.ggml.padding_token_id", &SpecialTokens::padding},
    {"tokenizer.ggml.mask_token_id", &SpecialTokens::mask},
    {"tokenizer.ggml.fim_pre_token_id", &SpecialTokens::fim_prefix},
    {"tokenizer.ggml.fim_suf_token_id", &SpecialTokens::fim_suffix},
    {"tokenizer.ggml.fim_mid_token_id", &SpecialTokens::fim_middle},
    {"tokenizer.ggml.fim_pad_token_id", &SpecialTokens::fim_padding},
    {"tokenizer.ggml.fim_rep_token_id", &SpecialTokens::fim_repository},
    {"tokenizer.ggml.fim_sep_token_id", &SpecialTokens::fim_separator},
};

struct RoleText {
  TokenId SpecialTokens::*role;
  std::string_view text;
};

// The first text that the vocabulary has takes a role that no key gave.
constexpr RoleText kRoleTexts[] = {
    {&SpecialTokens::eot, "<|eot_id|>"},
    {&SpecialTokens::eot, "<|im_end|>"},
    {&SpecialTokens::eot, "<|end|>"},
    {&SpecialTokens::eot, "<end_of_turn>"},
    {&SpecialTokens::eot, "<|endoftext|>"},
    {&SpecialTokens::eot, "<|end_of_text|>"},  // Granite
    {&SpecialTokens::eot, "<EOT>"},
    {&SpecialTokens::eot, "_<EOT>"},
    {&SpecialTokens::eot, "[EOT]"},                  // Kimi
    {&SpecialTokens::eot, "<｜end▁of▁sentence｜>"},  // DeepSeek
    {&SpecialTokens::eot, "<end_of_utterance>"},
    {&SpecialTokens::eom, "<|eom_id|>"},
    {&SpecialTokens::fim_prefix, "<|fim_prefix|>"},  // Qwen
    {&SpecialTokens::fim_prefix, "<fim-prefix>"},
    {&SpecialTokens::fim_prefix, "<fim_prefix>"},     // StarCoder, Granite
    {&SpecialTokens::fim_prefix, "<｜fim▁begin｜>"},  // DeepSeek
    {&SpecialTokens::fim_prefix, "<PRE>"},
    {&SpecialTokens::fim_prefix, "▁<PRE>"},           // CodeLlama
    {&SpecialTokens::fim_prefix, "<|code_prefix|>"},  // GLM
    {&SpecialTokens::fim_suffix, "<|fim_suffix|>"},
    {&SpecialTokens::fim_suffix, "<fim-suffix>"},
    {&SpecialTokens::fim_suffix, "<fim_suffix>"},
    {&SpecialTokens::fim_suffix, "<｜fim▁hole｜>"},
    {&SpecialTokens::fim_suffix, "<SUF>"},
    {&SpecialTokens::fim_suffix, "▁<SUF>"},
    {&SpecialTokens::fim_suffix, "<|code_suffix|>"},
    {&SpecialTokens::fim_middle, "<|fim_middle|>"},
    {&SpecialTokens::fim_middle, "<fim-middle>"},
    {&SpecialTokens::fim_middle, "<fim_middle>"},
    {&SpecialTokens::fim_middle, "<｜fim▁end｜>"},
    {&SpecialTokens::fim_middle, "<MID>"},
    {&SpecialTokens::fim_middle, "▁<MID>"},
    {&SpecialTokens::fim_middle, "<|code_middle|>"},
    {&SpecialTokens::fim_padding, "<|fim_pad|>"},
    {&SpecialTokens::fim_padding, "<fim-pad>"},
    {&SpecialTokens::fim_padding, "<fim_pad>"},
    {&SpecialTokens::fim_padding, "<PAD>"},
    {&SpecialTokens::fim_padding, "[PAD]"},
    {&SpecialTokens::fim_repository, "<|fim_repo|>"},
    {&SpecialTokens::fim_repository, "<|repo_name|>"},
    {&SpecialTokens::fim_repository, "<fim-repo>"},
    {&SpecialTokens::fim_repository, "<REPO>"},
    {&SpecialTokens::fim_repository, "<reponame>"},
    {&SpecialTokens::fim_separator, "<|file_sep|>"},
};

// Texts after which a model has finished, whatever the keys say.
constexpr std::string_view kEndTexts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
};

// gpt-oss writes these inside of its answer, between channels: they are part of the text.
constexpr std::string_view kHarmonyTexts[] = {"<|channel|>", "<|message|>", "<|start|>",
                                              "<|constrain|>"};

}  // namespace

base::Status Vocabulary::load_special(const gguf::Metadata& metadata) {
  if (model_ == Model::kSentencePiece) {
    // What SentencePiece itself does when nobody says otherwise.
    special_.unknown = 0;
    special_.bos = size() > 1 ? 1 : kNoToken;
    special_.eos = size() > 2 ? 2 : kNoToken;
  }
  for (const RoleKey& row : kRoleKeys) {
    if (!metadata.contains(row.key)) continue;
    CONCLAVE_TRY(const std::uint64_t id, metadata.get<std::uint64_t>(row.key));
    if (id >= size()) {
      return fail(ErrorCode::kCorruptData, std::string(row.key) + ": token " + std::to_string(id) +
                                               " in a vocabulary of " + std::to_string(size()));
    }
    special_.*row.role = static_cast<TokenId>(id);
  }
  return {};
}

void Vocabulary::detect_special_by_text() {
  for (const RoleText& row : kRoleTexts) {
    if (special_.*row.role != kNoToken) continue;
    const TokenId id = find(row.text);
    if (id == kNoToken) continue;
    special_.*row.role = id;
    add_kind(id, kControl);
  }
}

void Vocabulary::collect_end_of_generation() {
  for (const TokenId id : {special_.fim_padding, special_.fim_repository, special_.fim_separator,
                           special_.eos, special_.eot, special_.eom}) {
    if (id != kNoToken) end_.push_back(id);
  }
  for (const std::string_view text : kEndTexts) {
    const TokenId id = find(text);
    if (id == kNoToken) continue;
    end_.push_back(id);
    add_kind(id, kControl);
  }
  for (const std::string_view text : kHarmonyTexts) {
    const TokenId id = find(text);
    if (id != kNoToken) kinds_[index(id)] = kUserDefined;
  }
  // Where a turn ends with <|return|> or <|call|> (gpt-oss) or <|flush|> (Solar), <|end|> only ends
  // one message of several.
  const TokenId end = find("<|end|>");
  const bool call = find("<|call|>") != kNoToken || find("<|calls|>") != kNoToken;
  const bool finish = find("<|return|>") != kNoToken || find("<|flush|>") != kNoToken;
  if (end != kNoToken && call && finish) {
    std::erase(end_, end);
    kinds_[index(end)] = kUserDefined;
  }
  std::sort(end_.begin(), end_.end());
  end_.erase(std::unique(end_.begin(), end_.end()), end_.end());
}

void Vocabulary::apply_model_quirks(const std::string& model_name) {
  std::string name = model_name;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const bool phi3 =
      name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
  if (!phi3) return;
  // Phi-3 was trained without the white space after its markers; its tokenizer says so per token
  // ("rstrip"), GGUF has no place for that, and so the model's name must do.
  strips_right_.assign(size(), 0);
  for (std::size_t i = 0; i < size(); ++i) {
    strips_right_[i] = (kinds_[i] & (kControl | kUserDefined | kUnknown)) != 0;
  }
  for (const std::string_view text : {"<unk>", "<s>", "<|endoftext|>"}) {
    if (const TokenId id = find(text); id != kNoToken) strips_right_[index(id)] = 0;
  }
}

}  // namespace conclave::tokenizer
