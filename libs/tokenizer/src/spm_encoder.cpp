#include "spm_encoder.hpp"

#include <algorithm>
#include <deque>
#include <span>
#include <string>

#include "word_cache.hpp"

namespace conclave::tokenizer {
namespace {

constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581, how SentencePiece writes a space

// How long a character says that it is; bad UTF-8 is not looked at, its bytes find no token and are
// written as bytes.
std::size_t character_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  if (byte < 0xC0) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

std::string mark_spaces(std::string_view text, bool prefix) {
  const auto spaces = static_cast<std::size_t>(std::count(text.begin(), text.end(), ' '));
  std::string out;
  out.reserve(text.size() + kMark.size() * (spaces + 1));
  if (prefix) out += kMark;
  for (const char c : text) {
    if (c == ' ') {
      out += kMark;
    } else {
      out += c;
    }
  }
  return out;
}

// Where the word at the start of `text` ends: before the next mark that does not follow a mark.
std::size_t word_length(std::string_view text) {
  std::size_t at = 0;
  while (text.substr(at).starts_with(kMark)) at += kMark.size();
  return std::min(text.find(kMark, at), text.size());
}

bool spans_words(std::string_view token) { return word_length(token) != token.size(); }

struct Symbol {
  std::uint32_t start = 0;
  std::uint32_t length = 0;  // 0: joined into the one before
  std::int32_t previous = 0;
  std::int32_t next = 0;
  TokenId id = kNoToken;
};

struct Pair {
  float score = 0;
  std::int32_t left = 0;
  std::uint32_t length = 0;  // of both: tells a pair that has changed since
  TokenId id = kNoToken;
};

// For a heap whose top has the highest score; of equal ones the leftmost.
struct Worse {
  bool operator()(const Pair& a, const Pair& b) const {
    return a.score != b.score ? a.score < b.score : a.left > b.left;
  }
};

}  // namespace

struct SpmEncoder::SpmWorkspace final : Encoder::Workspace {
  explicit SpmWorkspace(std::size_t text_bytes) : cache(text_bytes) {}

  std::vector<Symbol> symbols;
  std::vector<Pair> heap;
  WordCache cache;
  std::deque<std::string> texts;  // normalised fragments; the cache points into them

  Symbol& at(std::int32_t i) { return symbols[static_cast<std::size_t>(i)]; }
};

SpmEncoder::SpmEncoder(const Vocabulary& vocabulary, bool add_space_prefix)
    : vocabulary_(&vocabulary), add_space_prefix_(add_space_prefix) {
  for (std::size_t i = 0; i < vocabulary.size() && words_are_independent_; ++i) {
    words_are_independent_ = !spans_words(vocabulary.text(static_cast<TokenId>(i)));
  }
  constexpr char kHex[] = "0123456789ABCDEF";
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const std::string hex = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    TokenId id = vocabulary.find(hex);
    if (id == kNoToken) id = vocabulary.find(std::string(1, static_cast<char>(byte)));
    byte_tokens_[byte] = id == kNoToken ? vocabulary.special().unknown : id;
  }
}

std::unique_ptr<Encoder::Workspace> SpmEncoder::make_workspace(std::size_t text_bytes) const {
  return std::make_unique<SpmWorkspace>(text_bytes);
}

base::Status SpmEncoder::encode(std::string_view text, bool after_special, Workspace& workspace,
                                std::vector<TokenId>& out) const {
  auto& work = static_cast<SpmWorkspace&>(workspace);
  std::string_view rest =
      work.texts.emplace_back(mark_spaces(text, add_space_prefix_ && after_special));
  while (!rest.empty()) {
    const std::string_view word = words_are_independent_ ? rest.substr(0, word_length(rest)) : rest;
    rest.remove_prefix(word.size());
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

void SpmEncoder::push_pair(std::string_view word, std::int32_t left, SpmWorkspace& work) const {
  if (left < 0) return;
  const Symbol& first = work.at(left);
  if (first.next < 0) return;
  const std::uint32_t length = first.length + work.at(first.next).length;
  if (length > vocabulary_->text_bytes_max()) return;
  const TokenId id = vocabulary_->find(word.substr(first.start, length));
  if (id == kNoToken) return;
  work.heap.push_back({vocabulary_->score(id), left, length, id});
  std::push_heap(work.heap.begin(), work.heap.end(), Worse{});
}

void SpmEncoder::encode_word(std::string_view word, SpmWorkspace& work,
                             std::vector<TokenId>& out) const {
  work.symbols.clear();
  work.heap.clear();
  for (std::size_t start = 0; start < word.size();) {
    const std::size_t length = std::min(character_length(word[start]), word.size() - start);
    const auto index = static_cast<std::int32_t>(work.symbols.size());
    const bool last = start + length == word.size();
    work.symbols.push_back({static_cast<std::uint32_t>(start), static_cast<std::uint32_t>(length),
                            index - 1, last ? -1 : index + 1, kNoToken});
    start += length;
  }
  for (std::int32_t i = 0; i + 1 < static_cast<std::int32_t>(work.symbols.size()); ++i) {
    push_pair(word, i, work);
  }
  while (!work.heap.empty()) {
    std::pop_heap(work.heap.begin(), work.heap.end(), Worse{});
    const Pair pair = work.heap.back();
    work.heap.pop_back();
    Symbol& left = work.at(pair.left);
    // Since the pair was queued one of its halves has joined something else.
    if (left.length == 0 || left.next < 0) continue;
    Symbol& right = work.at(left.next);
    if (left.length + right.length != pair.length) continue;
    left.length = pair.length;
    left.id = pair.id;
    left.next = right.next;
    right.length = 0;
    if (right.next >= 0) work.at(right.next).previous = pair.left;
    push_pair(word, left.previous, work);
    push_pair(word, pair.left, work);
  }
  for (std::int32_t i = 0; i >= 0; i = work.at(i).next) {
    const Symbol& symbol = work.at(i);
    const std::string_view text = word.substr(symbol.start, symbol.length);
    const TokenId id = symbol.id != kNoToken ? symbol.id : vocabulary_->find(text);
    if (id != kNoToken) {
      out.push_back(id);
    } else {
      append_bytes(text, out);
    }
  }
}

void SpmEncoder::append_bytes(std::string_view bytes, std::vector<TokenId>& out) const {
  for (const char byte : bytes) {
    const TokenId id = byte_tokens_[static_cast<unsigned char>(byte)];
    if (id != kNoToken) out.push_back(id);
  }
}

}  // namespace conclave::tokenizer
