// Which router has computed which beginnings of prompts, as far as one can tell from what was sent
// where: prompts that begin alike are cheapest where the others went, since the keys and values of
// the beginning are there. A hint: nobody says what a router has forgotten since.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "conclave/wire/inference.hpp"
#include "router_directory.hpp"

namespace conclave::gateway {

/// A block of a prompt is so many tokens, or about as much text: short enough that a common
/// instruction is seen, long enough that looking costs little beside sending.
inline constexpr std::size_t kPrefixBlockTokens = 128;
inline constexpr std::size_t kBytesPerToken = 4;  // of text, on average over languages
/// Blocks of one prompt that are looked at: where longer ones part, they have much in common.
inline constexpr std::size_t kPrefixBlocksMax = 256;

/// Tokens of a prompt, or what its text will have, about.
std::uint64_t estimated_tokens(const wire::Generate& request);

/// One hash for each whole block at the beginning of a prompt, of the block and all before it, of
/// the model, the kind and the salt. Equal ones: the prompts begin alike.
std::vector<std::uint64_t> prefix_blocks(const wire::Generate& request);

/// One thread.
class PrefixIndex {
 public:
  /// Remembers at most `blocks_max` blocks, those used last; 0: none.
  explicit PrefixIndex(std::size_t blocks_max) : blocks_max_(blocks_max) {}

  /// A prompt of these blocks was sent to a router.
  void note(std::span<const std::uint64_t> blocks, RouterId router);
  /// The router's memory is gone. Looks at all blocks.
  void forget(RouterId router);

  /// The tokens at the beginning of the prompt that routers know; those that know none are not
  /// named.
  [[nodiscard]] std::vector<KnownPrefix> find(std::span<const std::uint64_t> blocks) const;

  [[nodiscard]] std::size_t size() const { return blocks_.size(); }

 private:
  // Copies of a beginning on more routers help nobody.
  static constexpr std::size_t kHoldersMax = 4;
  struct Block {
    std::array<RouterId, kHoldersMax> holders{};  // the one noted last first; 0: none
    std::list<std::uint64_t>::iterator used;
  };

  std::size_t blocks_max_;
  std::unordered_map<std::uint64_t, Block> blocks_;
  std::list<std::uint64_t> used_;  // the hashes in blocks_, the one noted last first
};

}  // namespace conclave::gateway
