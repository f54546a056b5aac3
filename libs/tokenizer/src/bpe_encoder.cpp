#include "bpe_encoder.hpp"

#include <deque>
#include <span>
#include <utility>

#include "byte_alphabet.hpp"
#include "conclave/base/utf8.hpp"
#include "word_cache.hpp"

namespace conclave::tokenizer {
namespace {

// Each bad byte becomes U+FFFD of its own, as llama.cpp does it; base::utf8::sanitize would make
// one of several.
std::string replace_bad_bytes(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  while (!text.empty()) {
    const base::utf8::Decoded next = base::utf8::decode(text);
    const std::size_t length = next.valid ? next.length : 1;
    base::utf8::append(out, next.code_point);
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace

struct BpeEncoder::BpeWorkspace final : Encoder::Workspace {
  explicit BpeWorkspace(std::size_t text_bytes) : cache(text_bytes) {}

  PreTokenizer::Scratch pre_tokenizer;
  BpeMerger::Scratch merger;
  WordCache cache;
  std::vector<std::uint32_t> ends;
  std::vector<TokenId> ids;
  std::deque<std::string> repaired;  // fragments that were bad UTF-8; the cache points into them
};

base::Result<std::unique_ptr<const Encoder>> BpeEncoder::create(const Vocabulary& vocabulary,
                                                                const gguf::Metadata& metadata,
                                                                const PreRule& rule) {
  CONCLAVE_TRY(const std::vector<std::string>* merges, metadata.strings("tokenizer.ggml.merges"));
  CONCLAVE_TRY(BpeMerger merger, BpeMerger::create(vocabulary, *merges));
  CONCLAVE_TRY(PreTokenizer pre_tokenizer, PreTokenizer::create(rule));
  return std::unique_ptr<const Encoder>(
      new BpeEncoder(vocabulary, std::move(pre_tokenizer), std::move(merger), rule.ignore_merges));
}

BpeEncoder::BpeEncoder(const Vocabulary& vocabulary, PreTokenizer pre_tokenizer, BpeMerger merger,
                       bool ignore_merges)
    : pre_tokenizer_(std::move(pre_tokenizer)),
      merger_(std::move(merger)),
      ignore_merges_(ignore_merges) {
  for (std::size_t byte = 0; byte < 256; ++byte) {
    byte_tokens_[byte] = vocabulary.find(spell_bytes(std::string(1, static_cast<char>(byte))));
  }
  if (!ignore_merges_) return;
  token_bytes_.resize(vocabulary.size());
  by_bytes_ = TextMap(vocabulary.size());
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    auto bytes = bytes_of(vocabulary.text(id));
    if (!bytes) continue;  // spells no bytes, so no word either
    token_bytes_[i] = std::move(*bytes);
    by_bytes_.insert(token_bytes_[i], id);
  }
}

std::unique_ptr<Encoder::Workspace> BpeEncoder::make_workspace(std::size_t text_bytes) const {
  return std::make_unique<BpeWorkspace>(text_bytes);
}

base::Status BpeEncoder::encode(std::string_view text, bool /*after_special*/, Workspace& workspace,
                                std::vector<TokenId>& out) const {
  auto& work = static_cast<BpeWorkspace&>(workspace);
  if (!base::utf8::valid(text)) text = work.repaired.emplace_back(replace_bad_bytes(text));
  CONCLAVE_TRY_VOID(pre_tokenizer_.split(text, work.pre_tokenizer, work.ends));
  std::uint32_t start = 0;
  for (const std::uint32_t end : work.ends) {
    const std::string_view word = text.substr(start, end - start);
    start = end;
    if (word.size() > WordCache::kWordBytesMax) {
      encode_word(word, work, out);
    } else if (!work.cache.append(word, out)) {
      const std::size_t before = out.size();
      encode_word(word, work, out);
      work.cache.store(word, std::span(out).subspan(before));
    }
  }
  return {};
}

void BpeEncoder::encode_word(std::string_view word, BpeWorkspace& workspace,
                             std::vector<TokenId>& out) const {
  if (ignore_merges_) {
    if (const TokenId id = by_bytes_.find(word); id != kNoToken) {
      out.push_back(id);
      return;
    }
  }
  std::vector<TokenId>& ids = workspace.ids;
  ids.clear();
  for (const char byte : word) ids.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
  merger_.merge(ids, workspace.merger);
  // A byte that the vocabulary cannot spell is left out, as in llama.cpp. Vocabularies that lack
  // bytes lack those that UTF-8 never uses.
  for (const TokenId id : ids) {
    if (id != kNoToken) out.push_back(id);
  }
}

}  // namespace conclave::tokenizer
