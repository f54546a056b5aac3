#include "special_splitter.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace conclave::tokenizer {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Appends `text` cut at every occurrence of one token.
void cut(std::string_view text, TokenId id, std::string_view token, bool strip_right,
         std::vector<Fragment>& out) {
  while (true) {
    const std::size_t at = text.find(token);
    if (at != 0 && !text.empty()) out.push_back({kNoToken, text.substr(0, at)});
    if (at == std::string_view::npos) return;
    out.push_back({id, text.substr(at, token.size())});
    text.remove_prefix(at + token.size());
    while (strip_right && !text.empty() && is_space(text.front())) text.remove_prefix(1);
    if (text.empty()) return;
  }
}

}  // namespace

SpecialSplitter::SpecialSplitter(const Vocabulary& vocabulary, std::vector<TokenId> tokens)
    : vocabulary_(&vocabulary), by_length_(std::move(tokens)), by_text_(by_length_.size()) {
  std::stable_sort(by_length_.begin(), by_length_.end(), [&](TokenId a, TokenId b) {
    return vocabulary.text(a).size() > vocabulary.text(b).size();
  });
  std::iota(by_text_.begin(), by_text_.end(), 0u);
  std::sort(by_text_.begin(), by_text_.end(), [&](std::uint32_t a, std::uint32_t b) {
    return vocabulary.text(by_length_[a]) < vocabulary.text(by_length_[b]);
  });
  for (const TokenId id : by_length_) {
    first_byte_[static_cast<unsigned char>(vocabulary.text(id).front())] = true;
  }
}

// Narrows the sorted tokens byte by byte to those that `text` begins with.
void SpecialSplitter::mark_tokens_at(std::string_view text, std::vector<char>& present) const {
  auto low = by_text_.begin();
  auto high = by_text_.end();
  for (std::size_t depth = 0; depth < text.size() && low != high; ++depth) {
    const auto byte = static_cast<unsigned char>(text[depth]);
    const auto byte_at = [&](std::uint32_t i) {
      return static_cast<unsigned char>(vocabulary_->text(by_length_[i])[depth]);
    };
    low = std::partition_point(low, high, [&](std::uint32_t i) { return byte_at(i) < byte; });
    high = std::partition_point(low, high, [&](std::uint32_t i) { return byte_at(i) == byte; });
    // Texts differ, so at most one of the range ends here, and it sorts first.
    if (low != high && vocabulary_->text(by_length_[*low]).size() == depth + 1) {
      present[*low] = 1;
      ++low;
    }
  }
}

std::vector<char> SpecialSplitter::tokens_present(std::string_view text) const {
  std::vector<char> present(by_length_.size(), 0);
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (first_byte_[static_cast<unsigned char>(text[at])]) {
      mark_tokens_at(text.substr(at), present);
    }
  }
  return present;
}

std::vector<Fragment> SpecialSplitter::split(std::string_view text) const {
  std::vector<Fragment> fragments;
  if (!text.empty()) fragments.push_back({kNoToken, text});
  if (by_length_.empty() || text.empty()) return fragments;
  const std::vector<char> present = tokens_present(text);
  std::vector<Fragment> next;
  for (std::size_t i = 0; i < by_length_.size(); ++i) {
    if (present[i] == 0) continue;
    const TokenId id = by_length_[i];
    next.clear();
    for (const Fragment& fragment : fragments) {
      if (fragment.id != kNoToken) {
        next.push_back(fragment);
      } else {
        cut(fragment.text, id, vocabulary_->text(id), vocabulary_->strips_right(id), next);
      }
    }
    fragments.swap(next);
  }
  return fragments;
}

}  // namespace conclave::tokenizer
