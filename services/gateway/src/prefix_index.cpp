#include "prefix_index.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace conclave::gateway {

namespace {

// The finalizer of splitmix64: every bit of a word reaches every bit of the hash.
std::uint64_t mix(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) + 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  return hash ^ (hash >> 31);
}

std::uint64_t mix(std::uint64_t hash, std::string_view bytes) {
  while (!bytes.empty()) {
    std::uint64_t word = 0;
    const std::size_t count = std::min(bytes.size(), sizeof(word));
    std::memcpy(&word, bytes.data(), count);
    hash = mix(hash, word);
    bytes.remove_prefix(count);
  }
  return hash;
}

// The bytes of a prompt, whatever its kind, and how many of them are one token.
struct Bytes {
  std::string_view all;
  std::size_t per_token = kBytesPerToken;
};

Bytes bytes_of(const wire::Generate& request) {
  if (request.kind != wire::PromptKind::kTokens) return {request.text};
  return {{reinterpret_cast<const char*>(request.tokens.data()),
           request.tokens.size() * sizeof(request.tokens[0])},
          sizeof(request.tokens[0])};
}

}  // namespace

std::uint64_t estimated_tokens(const wire::Generate& request) {
  const Bytes bytes = bytes_of(request);
  return bytes.all.size() / bytes.per_token;
}

std::vector<std::uint64_t> prefix_blocks(const wire::Generate& request) {
  Bytes bytes = bytes_of(request);
  const std::size_t block = kPrefixBlockTokens * bytes.per_token;
  std::uint64_t hash =
      mix(static_cast<std::uint64_t>(request.kind) + (std::uint64_t{request.version} << 8),
          request.model);
  hash = mix(mix(hash, request.cache_salt.size()), request.cache_salt);
  std::vector<std::uint64_t> blocks;
  blocks.reserve(std::min(bytes.all.size() / block, kPrefixBlocksMax));
  while (bytes.all.size() >= block && blocks.size() < kPrefixBlocksMax) {
    hash = mix(hash, bytes.all.substr(0, block));
    blocks.push_back(hash);
    bytes.all.remove_prefix(block);
  }
  return blocks;
}

void PrefixIndex::note(std::span<const std::uint64_t> blocks, RouterId router) {
  // From the last on: of a prompt whose blocks do not all have room, the first ones stay.
  for (auto hash = blocks.rbegin(); hash != blocks.rend(); ++hash) {
    const auto [at, is_new] = blocks_.try_emplace(*hash);
    Block& block = at->second;
    if (is_new) {
      block.used = used_.insert(used_.begin(), *hash);
    } else {
      used_.splice(used_.begin(), used_, block.used);
    }
    auto place = std::ranges::find(block.holders, router);
    if (place == block.holders.end()) {
      place = std::prev(block.holders.end());
      *place = router;
    }
    std::rotate(block.holders.begin(), place, std::next(place));
  }
  while (blocks_.size() > blocks_max_) {
    blocks_.erase(used_.back());
    used_.pop_back();
  }
}

void PrefixIndex::forget(RouterId router) {
  for (auto at = blocks_.begin(); at != blocks_.end();) {
    auto& holders = at->second.holders;
    const auto others = std::remove(holders.begin(), holders.end(), router);
    std::fill(others, holders.end(), RouterId{});
    if (holders.front() != RouterId{}) {
      ++at;
      continue;
    }
    used_.erase(at->second.used);
    at = blocks_.erase(at);
  }
}

std::vector<KnownPrefix> PrefixIndex::find(std::span<const std::uint64_t> blocks) const {
  std::vector<KnownPrefix> known;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const auto at = blocks_.find(blocks[i]);
    if (at == blocks_.end()) break;
    for (const RouterId holder : at->second.holders) {
      if (holder == RouterId{}) break;
      const auto before = std::ranges::find(known, holder, &KnownPrefix::router);
      // A router that lost a block in the middle has to compute what follows it.
      if (before != known.end()) {
        if (before->tokens == i * kPrefixBlockTokens) before->tokens += kPrefixBlockTokens;
      } else if (i == 0) {
        known.push_back({holder, kPrefixBlockTokens});
      }
    }
  }
  return known;
}

}  // namespace conclave::gateway
