// How keys and values lie in memory, and what the attention kernels take. A KV block holds 16
// tokens of one KV head: the keys transposed, so that the scores of 16 tokens are one vector, then
// the values in slices of 16 numbers, so that a slice of a weighted sum is one vector.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace conclave::kernels {

/// The numbers of cached keys and values. What is computed with them is single precision.
enum class KvType : std::uint8_t {
  kF32,
  kF16,
  kQ8_0,  // 8 bits, one float scale for 32 numbers of a token
};

constexpr auto enum_names(KvType /*tag*/) {
  using Entry = std::pair<std::string_view, KvType>;
  return std::array{Entry{"f32", KvType::kF32}, Entry{"f16", KvType::kF16},
                    Entry{"q8_0", KvType::kQ8_0}};
}

inline constexpr std::uint32_t kKvBlockTokens = 16;
/// Numbers of a token that share a scale in KvType::kQ8_0.
inline constexpr std::uint32_t kKvGroup = 32;
/// Numbers of a value that stand together.
inline constexpr std::uint32_t kKvSlice = 16;

/// The bytes of one KV block.
///   keys    F32, F16: (key_dim, 16). Q8_0: for each 32 numbers {16 float scales, (32, 16) int8}.
///   values  F32, F16: (slices, 16, 16). Q8_0: for each 32 numbers {16 float scales,
///           (2 slices, 16, 16) int8}. Filled up with zeros to whole slices.
/// In latent attention the value is the head of the key, and is kept there alone.
struct KvLayout {
  KvType type = KvType::kF32;
  std::uint32_t key_dim = 0;
  std::uint32_t value_dim = 0;
  bool values_in_keys = false;  // then value_dim <= key_dim

  /// Slices of a value, the last one perhaps filled up.
  [[nodiscard]] std::size_t slices() const { return (value_dim + kKvSlice - 1) / kKvSlice; }
  /// Where the values begin. A multiple of a cache line, as bytes() is.
  [[nodiscard]] std::size_t key_bytes() const;
  [[nodiscard]] std::size_t bytes() const;
};

/// Tokens to write to one KV block: `tokens` rows from slot `slot` on, at most 16 in all. Borrowed.
struct KvRows {
  KvLayout layout;
  std::byte* block = nullptr;
  std::uint32_t slot = 0;
  std::uint32_t tokens = 0;
  const float* keys = nullptr;  // (tokens, key_dim), rows key_stride floats apart
  std::size_t key_stride = 0;
  const float* values = nullptr;  // (tokens, value_dim); unused if the values are in the keys
  std::size_t value_stride = 0;
};

/// Queries that share a tile: enough that reading, converting and (for values in keys) transposing
/// a block costs little beside working with it.
inline constexpr std::size_t kTileQueries = 32;

/// One query of a tile: it sees the positions [begin, end), end > begin.
struct TileQuery {
  const float* q = nullptr;  // (key_dim)
  float* out = nullptr;      // (value_dim)
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  const float* sink = nullptr;  // joins the softmax as one more score without a value; null: none
};

/// Queries of one sequence that are worked on together. Borrowed. Consecutive KV heads of one tile
/// are read in the order in which they lie in memory, which pays where each has few queries.
struct AttentionTile {
  KvLayout layout;
  const std::byte* base = nullptr;       // the first KV head in block 0 of the pool
  std::size_t block_stride = 0;          // bytes between blocks of the pool
  const std::uint32_t* table = nullptr;  // table[position / 16] is the block of a position
  std::size_t heads = 1;                 // KV heads; 1 where values are in the keys
  const TileQuery* queries = nullptr;    // (heads, count / heads)
  std::size_t count = 0;                 // of queries, at most kTileQueries
  float scale = 1.0f;                    // on q . k
  float* room = nullptr;                 // attention_room() floats of scratch
};

/// Floats of scratch that a tile needs.
std::size_t attention_room(const KvLayout& layout);

}  // namespace conclave::kernels
