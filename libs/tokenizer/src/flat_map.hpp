// Two read-mostly hash tables with open addressing and linear probing. std::unordered_map follows a
// pointer per lookup; encoding is little but lookups, and these halve its time.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "conclave/tokenizer/token.hpp"

namespace conclave::tokenizer {

/// Number of slots for `count` entries: a power of two, at most two thirds full.
inline std::size_t slot_count(std::size_t count) { return std::bit_ceil(count + count / 2 + 1); }

/// Pair of token ids -> 64-bit value. kNone is no value.
class PairMap {
 public:
  static constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();

  explicit PairMap(std::size_t capacity = 0)
      : slots_(slot_count(capacity)),
        shift_(64 - std::countr_zero(slots_.size() < 2 ? std::size_t{2} : slots_.size())) {
    if (slots_.size() < 2) slots_.resize(2);
  }

  /// Keeps the first value of a pair. At most `capacity` pairs.
  void insert(TokenId left, TokenId right, std::uint64_t value) {
    Slot& slot = slots_[probe(key_of(left, right))];
    if (slot.value == kNone) slot = {key_of(left, right), value};
  }

  [[nodiscard]] std::uint64_t find(TokenId left, TokenId right) const {
    return slots_[probe(key_of(left, right))].value;
  }

 private:
  struct Slot {
    std::uint64_t key = 0;
    std::uint64_t value = kNone;
  };

  static std::uint64_t key_of(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }

  // The slot of `key`, or the free one where it would go.
  [[nodiscard]] std::size_t probe(std::uint64_t key) const {
    // Fibonacci hashing: the high bits of key * 2^64/phi depend on every bit of the key.
    std::size_t at = (key * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[at].value != kNone && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;
  int shift_;
};

/// Text -> token id, over texts that somebody else owns.
class TextMap {
 public:
  explicit TextMap(std::size_t capacity = 0) : slots_(slot_count(capacity)) {}

  /// Returns the id that already has this text, and changes nothing; kNoToken if it was new.
  /// `text` outlives the map. At most `capacity` texts.
  TokenId insert(std::string_view text, TokenId id) {
    const auto hash = hash_of(text);
    Slot& slot = slots_[probe(text, hash)];
    if (slot.id != kNoToken) return slot.id;
    slot = {text.data(), static_cast<std::uint32_t>(text.size()), hash, id};
    return kNoToken;
  }

  [[nodiscard]] TokenId find(std::string_view text) const {
    return slots_[probe(text, hash_of(text))].id;
  }

 private:
  struct Slot {
    const char* data = nullptr;
    std::uint32_t size = 0;
    std::uint32_t hash = 0;
    TokenId id = kNoToken;

    [[nodiscard]] std::string_view text() const { return {data, size}; }
  };

  static std::uint32_t hash_of(std::string_view text) {
    return static_cast<std::uint32_t>(std::hash<std::string_view>{}(text));
  }

  [[nodiscard]] std::size_t probe(std::string_view text, std::uint32_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at].id != kNoToken && (slots_[at].hash != hash || slots_[at].text() != text)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  std::vector<Slot> slots_;
};

}  // namespace conclave::tokenizer
