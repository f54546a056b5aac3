#include "bpe_merger.hpp"

#include <algorithm>
#include <limits>

namespace conclave::tokenizer {
namespace {

using base::ErrorCode;
using base::fail;

constexpr const char* kMergesKey = "tokenizer.ggml.merges";

// Up to here scanning all pairs for the best beats keeping them in order; nearly all words.
constexpr std::size_t kScanMax = 48;

TokenId joined_token(std::uint64_t value) {
  return static_cast<TokenId>(static_cast<std::uint32_t>(value));
}

// For a heap whose top is the best pair.
struct Worse {
  bool operator()(const BpeMerger::Scratch::Pair& a, const BpeMerger::Scratch::Pair& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }
};

}  // namespace

base::Result<BpeMerger> BpeMerger::create(const Vocabulary& vocabulary,
                                          const std::vector<std::string>& merges) {
  if (merges.size() > std::numeric_limits<std::uint32_t>::max() / 2) {
    return fail(ErrorCode::kCorruptData, std::string(kMergesKey) + ": too many");
  }
  BpeMerger merger(merges.size());
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view line = merges[rank];
    // From 1: in vocabularies that do not spell the space, it may itself be the left half.
    const std::size_t space = line.empty() ? std::string_view::npos : line.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == line.size()) {
      return fail(ErrorCode::kCorruptData, std::string(kMergesKey) + ": merge " +
                                               std::to_string(rank) + " is not two texts");
    }
    const std::string_view left = line.substr(0, space);
    const std::string_view right = line.substr(space + 1);
    joined.assign(left).append(right);
    const TokenId left_id = vocabulary.find(left);
    const TokenId right_id = vocabulary.find(right);
    const TokenId joined_id = vocabulary.find(joined);
    if (left_id == kNoToken || right_id == kNoToken || joined_id == kNoToken) {
      return fail(ErrorCode::kCorruptData, std::string(kMergesKey) + ": merge " +
                                               std::to_string(rank) + " '" + std::string(line) +
                                               "' names or makes a text that is no token");
    }
    merger.pairs_.insert(left_id, right_id,
                         std::uint64_t{rank} << 32 | static_cast<std::uint32_t>(joined_id));
  }
  return merger;
}

void BpeMerger::merge(std::vector<TokenId>& ids, Scratch& scratch) const {
  if (ids.size() < 2) return;
  ids.size() <= kScanMax ? merge_by_scan(ids, scratch) : merge_by_heap(ids, scratch);
}

void BpeMerger::merge_by_scan(std::vector<TokenId>& ids, Scratch& scratch) const {
  std::vector<std::uint64_t>& ranks = scratch.ranks;
  ranks.resize(ids.size() - 1);
  for (std::size_t i = 0; i < ranks.size(); ++i) ranks[i] = pairs_.find(ids[i], ids[i + 1]);
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == PairMap::kNone) return;
    const auto at = static_cast<std::size_t>(best - ranks.begin());
    ids[at] = joined_token(*best);
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    ranks.erase(best);
    if (at > 0) ranks[at - 1] = pairs_.find(ids[at - 1], ids[at]);
    if (at < ranks.size()) ranks[at] = pairs_.find(ids[at], ids[at + 1]);
  }
}

void BpeMerger::push_pair(Scratch& scratch, std::int32_t left) const {
  if (left < 0) return;
  auto& symbol = scratch.symbols[static_cast<std::size_t>(left)];
  symbol.rank =
      symbol.next < 0
          ? PairMap::kNone
          : pairs_.find(symbol.id, scratch.symbols[static_cast<std::size_t>(symbol.next)].id);
  if (symbol.rank == PairMap::kNone) return;
  scratch.heap.push_back({symbol.rank, left});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), Worse{});
}

void BpeMerger::merge_by_heap(std::vector<TokenId>& ids, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto count = static_cast<std::int32_t>(ids.size());
  symbols.resize(ids.size());
  heap.clear();
  for (std::int32_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const bool last = i + 1 == count;
    const std::uint64_t rank = last ? PairMap::kNone : pairs_.find(ids[at], ids[at + 1]);
    symbols[at] = {ids[at], i - 1, last ? -1 : i + 1, rank};
    if (rank != PairMap::kNone) heap.push_back({rank, i});
  }
  std::make_heap(heap.begin(), heap.end(), Worse{});
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), Worse{});
    const Scratch::Pair pair = heap.back();
    heap.pop_back();
    auto& left = symbols[static_cast<std::size_t>(pair.left)];
    // Since the pair was queued one of its halves has joined something else.
    if (left.rank != pair.rank) continue;
    auto& right = symbols[static_cast<std::size_t>(left.next)];
    left.id = joined_token(pair.rank);
    left.next = right.next;
    right.rank = PairMap::kNone;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = pair.left;
    push_pair(scratch, left.previous);
    push_pair(scratch, pair.left);
  }
  ids.clear();
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    ids.push_back(symbols[static_cast<std::size_t>(i)].id);
  }
}

}  // namespace conclave::tokenizer
