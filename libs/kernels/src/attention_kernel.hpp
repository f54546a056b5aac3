// Attention of a tile of queries in one pass over their keys and values, written once over a Simd
// backend. The order of every sum is fixed by the positions alone: a score is one chain of fused
// multiply-adds from number 0 up, a step of 128 positions (kStepTokens) moves the running maximum
// once, and a value is one chain over the positions. Queries of a tile share what is loaded and
// converted, never a sum; so the bits of one are the same in any tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "attention_layout.hpp"
#include "conclave/kernels/attention.hpp"
#include "vector_kernel.hpp"

namespace conclave::kernels {
namespace {  // internal linkage: see kernel_instance.hpp

float tree_max(const float (&lanes)[16]) {
  const auto larger = [](float a, float b) { return a > b ? a : b; };
  float best[8];
  for (std::size_t i = 0; i < 8; ++i) best[i] = larger(lanes[i], lanes[i + 8]);
  for (std::size_t i = 0; i < 4; ++i) best[i] = larger(best[i], best[i + 4]);
  return larger(larger(best[0], best[2]), larger(best[1], best[3]));
}

// Each number format: `key` gives number d of a group of 32 for kLanes tokens, `value` kLanes
// numbers of a slice for token t; kGroupBytes is from one group of keys to the next, kRowBytes from
// one token of a slice to the next.
template <class S>
struct F32Kv {
  static constexpr std::size_t kGroupBytes = std::size_t{kKvGroup} * kKvBlockTokens * 4;
  static constexpr std::size_t kRowBytes = std::size_t{kKvSlice} * 4;
  struct Slice {
    const std::uint8_t* data;
  };
  static typename S::F32 key(const std::uint8_t* group, std::size_t d, std::size_t lane) {
    return S::load(reinterpret_cast<const float*>(group) + d * kKvBlockTokens + lane);
  }
  static Slice slice(const std::uint8_t* values, std::size_t s) {
    return {values + s * kKvSlice * kKvBlockTokens * 4};
  }
  static typename S::F32 value(const Slice& slice, std::size_t t, std::size_t lane) {
    return S::load(reinterpret_cast<const float*>(slice.data) + t * kKvSlice + lane);
  }
};

template <class S>
struct F16Kv {
  static constexpr std::size_t kGroupBytes = std::size_t{kKvGroup} * kKvBlockTokens * 2;
  static constexpr std::size_t kRowBytes = std::size_t{kKvSlice} * 2;
  struct Slice {
    const std::uint8_t* data;
  };
  static typename S::F32 key(const std::uint8_t* group, std::size_t d, std::size_t lane) {
    return S::load_f16(group + (d * kKvBlockTokens + lane) * 2);
  }
  static Slice slice(const std::uint8_t* values, std::size_t s) {
    return {values + s * kKvSlice * kKvBlockTokens * 2};
  }
  static typename S::F32 value(const Slice& slice, std::size_t t, std::size_t lane) {
    return S::load_f16(slice.data + (t * kKvSlice + lane) * 2);
  }
};

template <class S>
struct Q8Kv {
  static constexpr std::size_t kGroupBytes = attention::kQ8GroupBytes;
  static constexpr std::size_t kRowBytes = kKvSlice;
  struct Slice {
    const float* scales;
    const std::uint8_t* data;
  };
  static typename S::F32 key(const std::uint8_t* group, std::size_t d, std::size_t lane) {
    const auto quants = S::load_i8_i32(group + attention::kQ8Scales + d * kKvBlockTokens + lane);
    return S::mul(S::to_f32(quants), S::load(reinterpret_cast<const float*>(group) + lane));
  }
  static Slice slice(const std::uint8_t* values, std::size_t s) {
    constexpr std::size_t kSlices = kKvGroup / kKvSlice;
    const std::uint8_t* group = values + s / kSlices * kGroupBytes;
    return {reinterpret_cast<const float*>(group),
            group + attention::kQ8Scales + s % kSlices * kKvSlice * kKvBlockTokens};
  }
  static typename S::F32 value(const Slice& slice, std::size_t t, std::size_t lane) {
    const auto quants = S::load_i8_i32(slice.data + t * kKvSlice + lane);
    return S::mul(S::to_f32(quants), S::set1(slice.scales[t]));
  }
};

// Sums of 16 numbers that a loop keeps in registers beside what it loads.
template <class S>
constexpr std::size_t kSumsHeld = S::kLanes == 16 ? 16 : 4;

// Calls body(first, constant) for n queries, the constant of them from `first` on.
template <class S, class Body>
void each_group(std::size_t n, Body body) {
  std::size_t i = 0;
  if constexpr (kSumsHeld<S> == 16) {
    for (; i + 16 <= n; i += 16) body(i, std::integral_constant<std::size_t, 16>());
    for (; i + 8 <= n; i += 8) body(i, std::integral_constant<std::size_t, 8>());
  }
  for (; i + 4 <= n; i += 4) body(i, std::integral_constant<std::size_t, 4>());
  for (; i + 2 <= n; i += 2) body(i, std::integral_constant<std::size_t, 2>());
  for (; i < n; ++i) body(i, std::integral_constant<std::size_t, 1>());
}

// Blocks or slices that a loop over kQueries works on at once: a chain of additions waits for
// itself, so there must be several.
template <class S, std::size_t kQueries>
constexpr std::size_t kAbreast = kSumsHeld<S> / kQueries < 4 ? kSumsHeld<S> / kQueries : 4;

// The keys or values of some blocks: `offset` bytes from those of a tile's first KV head.
struct HeadBlocks {
  const std::uint8_t* const* blocks;
  std::size_t offset;
  const std::uint8_t* operator[](std::size_t b) const { return blocks[b] + offset; }
  [[nodiscard]] HeadBlocks from(std::size_t b) const { return {blocks + b, offset}; }
};

// What is wanted next: so many bytes of each of `count` blocks. Blocks lie anywhere in memory,
// where no hardware prefetcher finds the next one. One line at a time among the arithmetic: a core
// has room for 10 to 16 lines that are under way, and computes nothing while it waits for more
// room. And a line of each block in turn: lines of several pages come faster than those of one (a
// Xeon with AMX: decoding reads 1.1 times as many bytes a second).
class Wanted {
 public:
  Wanted(HeadBlocks blocks, std::size_t count, std::size_t bytes)
      : blocks_(blocks), count_(count), bytes_(bytes) {}

  // Always inline: see Fetch::lines.
  [[gnu::always_inline]] void fetch_line() {
    if (at_ >= bytes_) return;
    __builtin_prefetch(blocks_[block_] + at_, 0, 2);
    if (++block_ < count_) return;
    block_ = 0;
    at_ += 64;
  }

 private:
  HeadBlocks blocks_;
  std::size_t count_;
  std::size_t bytes_;
  std::size_t block_ = 0;
  std::size_t at_ = 0;
};

// scores (kQueries, kStepTokens) of kBlocks blocks; q (dim, 16) holds the queries. Meanwhile about
// as many bytes of `wanted` come closer.
template <class S, class Kv, std::size_t kQueries, std::size_t kBlocks>
void score_blocks(HeadBlocks keys, Wanted& wanted, std::size_t dim, const float* q, float* scores) {
  constexpr std::size_t kLineNumbers = kKvGroup * 64 / Kv::kGroupBytes;  // d of one line of keys
  // A copy stays in registers.
  Wanted next = wanted;
  typename S::F32 acc[kBlocks][kVectors<S>][kQueries];
  for (auto& block : acc) {
    for (auto& vector : block) {
      for (auto& sum : vector) sum = S::zero();
    }
  }
  for (std::size_t done = 0; done < dim; done += kKvGroup) {
    const std::size_t group = done / kKvGroup * Kv::kGroupBytes;
    const std::size_t n = dim - done < kKvGroup ? dim - done : kKvGroup;
    const auto add = [&](std::size_t d) {
      for (std::size_t b = 0; b < kBlocks; ++b) {
        for (std::size_t v = 0; v < kVectors<S>; ++v) {
          const auto key = Kv::key(keys[b] + group, d, v * S::kLanes);
          for (std::size_t i = 0; i < kQueries; ++i) {
            acc[b][v][i] = S::fma(S::set1(q[i]), key, acc[b][v][i]);
          }
        }
      }
      q += attention::kPackQueries;
    };
    std::size_t d = 0;
    for (; d + kLineNumbers <= n; d += kLineNumbers) {
      for (std::size_t b = 0; b < kBlocks; ++b) next.fetch_line();
      for (std::size_t i = 0; i < kLineNumbers; ++i) add(d + i);
    }
    for (; d < n; ++d) add(d);
  }
  wanted = next;
  for (std::size_t b = 0; b < kBlocks; ++b) {
    for (std::size_t v = 0; v < kVectors<S>; ++v) {
      for (std::size_t i = 0; i < kQueries; ++i) {
        S::store(scores + i * attention::kStepTokens + b * kKvBlockTokens + v * S::kLanes,
                 acc[b][v][i]);
      }
    }
  }
}

// sums (kQueries, stride), kSlices slices of them, = factor * sums + p * values over the tokens
// [from, to) of a step, in order. p (kQueries, kStepTokens). Meanwhile about as many bytes of
// `wanted` come closer.
template <class S, class Kv, std::size_t kQueries, std::size_t kSlices>
void add_slices(HeadBlocks blocks, Wanted& wanted, std::size_t slice, std::size_t from,
                std::size_t to, const float* p, const float* factors, float* sums,
                std::size_t stride) {
  Wanted next = wanted;
  typename S::F32 acc[kSlices][kVectors<S>][kQueries];
  for (std::size_t s = 0; s < kSlices; ++s) {
    for (std::size_t v = 0; v < kVectors<S>; ++v) {
      for (std::size_t i = 0; i < kQueries; ++i) {
        const float* sum = sums + i * stride + s * kKvSlice + v * S::kLanes;
        acc[s][v][i] = S::mul(S::load(sum), S::set1(factors[i]));
      }
    }
  }
  for (std::size_t t = from; t < to;) {
    const std::size_t block = t / kKvBlockTokens;
    const std::size_t start = block * kKvBlockTokens;
    const std::size_t end = to < start + kKvBlockTokens ? to : start + kKvBlockTokens;
    typename Kv::Slice slices[kSlices];
    for (std::size_t s = 0; s < kSlices; ++s) slices[s] = Kv::slice(blocks[block], slice + s);
    constexpr std::size_t kLineTokens = Kv::kRowBytes < 64 ? 64 / Kv::kRowBytes : 1;
    for (; t < end; ++t) {
      for (std::size_t s = 0; s < kSlices; ++s) {
        if (t % kLineTokens == 0) next.fetch_line();
        for (std::size_t v = 0; v < kVectors<S>; ++v) {
          const auto value = Kv::value(slices[s], t - start, v * S::kLanes);
          for (std::size_t i = 0; i < kQueries; ++i) {
            acc[s][v][i] = S::fma(S::set1(p[i * attention::kStepTokens + t]), value, acc[s][v][i]);
          }
        }
      }
    }
  }
  wanted = next;
  for (std::size_t s = 0; s < kSlices; ++s) {
    for (std::size_t v = 0; v < kVectors<S>; ++v) {
      for (std::size_t i = 0; i < kQueries; ++i) {
        S::store(sums + i * stride + s * kKvSlice + v * S::kLanes, acc[s][v][i]);
      }
    }
  }
}

// The work on one tile. Tokens of a step are counted from its start.
template <class S, class Kv>
class TileRun {
 public:
  explicit TileRun(const AttentionTile& tile)
      : tile_(tile),
        dim_(tile.layout.key_dim),
        stride_(tile.layout.slices() * kKvSlice),
        head_queries_(tile.count / tile.heads),
        head_bytes_(tile.layout.bytes()),
        key_bytes_(tile.layout.key_bytes()),
        q_(tile.room),
        sums_(q_ + kTileQueries * dim_),
        p_(sums_ + kTileQueries * stride_),
        slice_(p_ + kTileQueries * attention::kStepTokens) {}

  void run() {
    begin();
    std::uint32_t first = tile_.queries[0].begin;
    std::uint32_t last = tile_.queries[0].end;
    for (std::size_t i = 1; i < tile_.count; ++i) {
      first = tile_.queries[i].begin < first ? tile_.queries[i].begin : first;
      last = tile_.queries[i].end > last ? tile_.queries[i].end : last;
    }
    for (std::size_t step = first / attention::kStepTokens;
         step <= (last - 1) / attention::kStepTokens; ++step) {
      take_step(step * attention::kStepTokens, first, last);
    }
    finish();
  }

 private:
  static constexpr std::size_t kAheadInKeys = 4;  // blocks; no fewer than are scored at once

  struct Range {
    std::size_t from, to;  // tokens of the step that a query sees; from == to: none
  };
  struct Queries {
    std::size_t first, last;  // of the tile: [first, last)
  };

  // Queries are packed 16 side by side, scaled; the sink is a first score without a value.
  void begin() {
    for (std::size_t i = 0; i < tile_.count; ++i) {
      const TileQuery& query = tile_.queries[i];
      float* packed = q_ + i / attention::kPackQueries * attention::kPackQueries * dim_ +
                      i % attention::kPackQueries;
      for (std::size_t d = 0; d < dim_; ++d) {
        packed[d * attention::kPackQueries] = query.q[d] * tile_.scale;
      }
      for (float& mass : mass_[i]) mass = 0.0f;
      shift_[i] = query.sink != nullptr ? *query.sink : -std::numeric_limits<float>::infinity();
      mass_[i][0] = query.sink != nullptr ? 1.0f : 0.0f;
      ones_[i] = 1.0f;
    }
    for (std::size_t i = 0; i < tile_.count * stride_; ++i) sums_[i] = 0.0f;
  }

  void take_step(std::size_t start, std::size_t first, std::size_t last) {
    first_block_ = first > start ? (first - start) / kKvBlockTokens : 0;
    const std::size_t tokens =
        last - start < attention::kStepTokens ? last - start : attention::kStepTokens;
    end_block_ = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
    const std::size_t last_block = (last - 1) / kKvBlockTokens;
    for (std::size_t b = first_block_; b < 2 * attention::kStepBlocks; ++b) {
      const std::size_t at = start / kKvBlockTokens + b;
      const std::size_t id = tile_.table[at < last_block ? at : last_block];
      keys_[b] = reinterpret_cast<const std::uint8_t*>(tile_.base) + id * tile_.block_stride;
    }
    find_ranges(start);
    for (std::size_t head = 0; head < tile_.heads; ++head) take_head(head);
  }

  // While scores are computed, values come closer; while these are added, the next keys: of the
  // next head, or of the next step. So memory has something to do nearly all the time. Where values
  // are in the keys, those of the next blocks come closer.
  void take_head(std::size_t head) {
    const Queries queries{head * head_queries_, (head + 1) * head_queries_};
    const std::size_t offset = head * head_bytes_;
    const HeadBlocks keys{keys_, offset};
    const HeadBlocks values{keys_, offset + key_bytes_};
    if (tile_.layout.values_in_keys) {
      score(queries, keys, nullptr);
      weigh(queries);
      add_from_keys();
      return;
    }
    const std::size_t count = end_block_ - first_block_;
    Wanted these(values.from(first_block_), count, head_bytes_ - key_bytes_);
    score(queries, keys, &these);
    weigh(queries);
    const bool more = head + 1 < tile_.heads;
    const HeadBlocks next = more ? HeadBlocks{keys_ + first_block_, offset + head_bytes_}
                                 : HeadBlocks{keys_ + attention::kStepBlocks, 0};
    Wanted those(next, count, key_bytes_);
    add<Kv>(queries, values, those, stride_ / kKvSlice, sums_);
  }

  void find_ranges(std::size_t start) {
    common_ = {0, attention::kStepTokens};
    early_ = false;
    for (std::size_t i = 0; i < tile_.count; ++i) {
      range_[i] = range_of(tile_.queries[i], start);
      const auto [from, to] = range_[i];
      if (i > 0 && from != range_[i - 1].from) early_ = true;
      common_.from = from > common_.from ? from : common_.from;
      common_.to = to < common_.to ? to : common_.to;
    }
  }

  static Range range_of(const TileQuery& query, std::size_t start) {
    const auto within = [start](std::size_t position) {
      const std::size_t token = position > start ? position - start : 0;
      return token < attention::kStepTokens ? token : attention::kStepTokens;
    };
    return {within(query.begin), within(query.end)};
  }

  // `wanted` null: keys of the next blocks.
  void score(Queries queries, HeadBlocks keys, Wanted* wanted) {
    const auto score_some = [&](auto count, auto blocks, std::size_t b, const float* q,
                                float* scores) {
      constexpr std::size_t kQueries = decltype(count)::value;
      constexpr std::size_t kBlocks = decltype(blocks)::value;
      Wanted next(keys.from(b + kAheadInKeys), kBlocks, key_bytes_);
      score_blocks<S, Kv, kQueries, kBlocks>(keys.from(b), wanted != nullptr ? *wanted : next, dim_,
                                             q, scores + b * kKvBlockTokens);
    };
    for (std::size_t first = queries.first; first < queries.last;) {
      const std::size_t pack = first / attention::kPackQueries * attention::kPackQueries;
      const std::size_t pack_end = pack + attention::kPackQueries;
      const std::size_t n = (pack_end < queries.last ? pack_end : queries.last) - first;
      each_group<S>(n, [&](std::size_t i, auto count) {
        constexpr std::size_t kQueries = decltype(count)::value;
        constexpr std::size_t kBlocks = kAbreast<S, kQueries>;
        const float* q = q_ + pack * dim_ + (first - pack + i);
        float* scores = p_ + (first + i) * attention::kStepTokens;
        std::size_t b = first_block_;
        for (; b + kBlocks <= end_block_; b += kBlocks) {
          score_some(count, std::integral_constant<std::size_t, kBlocks>(), b, q, scores);
        }
        if constexpr (kBlocks > 1) {
          for (; b < end_block_; ++b) {
            score_some(count, std::integral_constant<std::size_t, 1>(), b, q, scores);
          }
        }
      });
      first += n;
    }
  }

  // p_ = exp(score - running maximum); factors_ takes what was summed before to the new maximum.
  void weigh(Queries queries) {
    constexpr float kUnseen = -std::numeric_limits<float>::infinity();
    for (std::size_t i = queries.first; i < queries.last; ++i) {
      const auto [from, to] = range_[i];
      factors_[i] = 0.0f;
      if (from == to) continue;
      float* p = p_ + i * attention::kStepTokens;
      const std::size_t begin = from / kKvBlockTokens * kKvBlockTokens;
      const std::size_t end = whole_blocks(to);
      for (std::size_t t = begin; t < from; ++t) p[t] = kUnseen;
      for (std::size_t t = to; t < end; ++t) p[t] = kUnseen;
      typename S::F32 best[kVectors<S>];
      for (std::size_t v = 0; v < kVectors<S>; ++v) best[v] = S::load(p + begin + v * S::kLanes);
      for (std::size_t t = begin + 16; t < end; t += 16) {
        for (std::size_t v = 0; v < kVectors<S>; ++v) {
          best[v] = S::max(S::load(p + t + v * S::kLanes), best[v]);
        }
      }
      float lanes[16];
      for (std::size_t v = 0; v < kVectors<S>; ++v) S::store(lanes + v * S::kLanes, best[v]);
      const float largest = tree_max(lanes);
      const float shift = largest > shift_[i] ? largest : shift_[i];
      factors_[i] = shift_[i] - shift;
      shift_[i] = shift;
    }
    // Whole vectors: factors of other heads are done with, or not computed yet.
    for (std::size_t i = queries.first / S::kLanes * S::kLanes; i < queries.last; i += S::kLanes) {
      S::store(factors_ + i, exp_lanes<S>(S::load(factors_ + i)));
    }
    for (std::size_t i = queries.first; i < queries.last; ++i) {
      if (range_[i].from != range_[i].to) weigh_one(range_[i], p_ + i * attention::kStepTokens, i);
    }
  }

  void weigh_one(Range range, float* p, std::size_t i) {
    const std::size_t begin = range.from / kKvBlockTokens * kKvBlockTokens;
    const std::size_t end = whole_blocks(range.to);
    typename S::F32 mass[kVectors<S>];
    const auto factor = S::set1(factors_[i]);
    for (std::size_t v = 0; v < kVectors<S>; ++v) {
      mass[v] = S::mul(S::load(mass_[i] + v * S::kLanes), factor);
    }
    const auto shift = S::set1(shift_[i]);
    for (std::size_t t = begin; t < end; t += kKvBlockTokens) {
      for (std::size_t v = 0; v < kVectors<S>; ++v) {
        float* lanes = p + t + v * S::kLanes;
        S::store(lanes, exp_lanes<S>(S::sub(S::load(lanes), shift)));
      }
      if (t < range.from || t + kKvBlockTokens > range.to) {  // exp never gives 0
        for (std::size_t u = t; u < range.from; ++u) p[u] = 0.0f;
        for (std::size_t u = range.to; u < t + kKvBlockTokens; ++u) p[u] = 0.0f;
      }
      for (std::size_t v = 0; v < kVectors<S>; ++v) {
        mass[v] = S::add(mass[v], S::load(p + t + v * S::kLanes));
      }
    }
    for (std::size_t v = 0; v < kVectors<S>; ++v) S::store(mass_[i] + v * S::kLanes, mass[v]);
  }

  // As add(), where values are the heads of keys.
  void add_from_keys() {
    for (std::size_t s = 0; s < stride_ / kKvSlice; ++s) {
      const std::uint8_t* blocks[attention::kStepBlocks];
      for (std::size_t b = first_block_; b < end_block_; ++b) {
        float* out = slice_ + b * kKvBlockTokens * kKvSlice;
        transpose_slice(keys_[b], s, out);
        blocks[b] = reinterpret_cast<const std::uint8_t*>(out);
      }
      const HeadBlocks values{blocks, 0};
      Wanted nothing(values, 0, 0);
      add<F32Kv<S>>({0, tile_.count}, values, nothing, 1, sums_ + s * kKvSlice);
    }
  }

  // Numbers [16 s, 16 s + 16) of 16 keys as a slice of values.
  void transpose_slice(const std::uint8_t* keys, std::size_t s, float* out) const {
    float numbers[kKvSlice * kKvBlockTokens];
    for (std::size_t d = 0; d < kKvSlice; ++d) {
      const std::size_t number = s * kKvSlice + d;
      for (std::size_t v = 0; v < kVectors<S>; ++v) {
        const auto lanes = number < dim_ ? Kv::key(keys + number / kKvGroup * Kv::kGroupBytes,
                                                   number % kKvGroup, v * S::kLanes)
                                         : S::zero();
        S::store(numbers + d * kKvBlockTokens + v * S::kLanes, lanes);
      }
    }
    S::transpose16(numbers, kKvBlockTokens, out);
  }

  // The first `slices` slices of `sums` (queries, stride) from those of the blocks. Queries whose
  // ranges differ are worked on one by one where they do. A value that a query does not see is not
  // multiplied by 0: what stands there may be no number.
  template <class Values>
  void add(Queries queries, HeadBlocks blocks, Wanted& wanted, std::size_t slices, float* sums) {
    constexpr std::integral_constant<std::size_t, 1> kAlone;
    const auto add_to = [&](auto count, std::size_t i, Range range, const float* factors) {
      add_group<Values, decltype(count)::value>(blocks, wanted, slices, i, range, factors, sums);
    };
    const bool together = common_.from < common_.to;
    if (!together || early_) {
      for (std::size_t i = queries.first; i < queries.last; ++i) {
        const Range own{range_[i].from, together ? common_.from : range_[i].to};
        add_to(kAlone, i, own, factors_);  // who sees nothing of the step has the factor 1
      }
    }
    if (!together) return;
    const float* factors = early_ ? ones_ : factors_;
    each_group<S>(queries.last - queries.first, [&](std::size_t i, auto count) {
      add_to(count, queries.first + i, common_, factors);
    });
    for (std::size_t i = queries.first; i < queries.last; ++i) {
      const Range own{common_.to, range_[i].to};
      if (own.from < own.to) add_to(kAlone, i, own, ones_);
    }
  }

  // Queries [i, i + kQueries).
  template <class Values, std::size_t kQueries>
  void add_group(HeadBlocks blocks, Wanted& wanted, std::size_t slices, std::size_t i, Range range,
                 const float* factors, float* sums) {
    constexpr std::size_t kSlices = kAbreast<S, kQueries>;
    const float* p = p_ + i * attention::kStepTokens;
    sums += i * stride_;
    std::size_t s = 0;
    for (; s + kSlices <= slices; s += kSlices) {
      add_slices<S, Values, kQueries, kSlices>(blocks, wanted, s, range.from, range.to, p,
                                               factors + i, sums + s * kKvSlice, stride_);
    }
    if constexpr (kSlices > 1) {
      for (; s < slices; ++s) {
        add_slices<S, Values, kQueries, 1>(blocks, wanted, s, range.from, range.to, p, factors + i,
                                           sums + s * kKvSlice, stride_);
      }
    }
  }

  void finish() {
    for (std::size_t i = 0; i < tile_.count; ++i) {
      const float inverse = 1.0f / tree_sum(mass_[i]);
      const float* sums = sums_ + i * stride_;
      float* out = tile_.queries[i].out;
      for (std::size_t d = 0; d < tile_.layout.value_dim; ++d) out[d] = sums[d] * inverse;
    }
  }

  static std::size_t whole_blocks(std::size_t tokens) {
    return (tokens + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens;
  }

  const AttentionTile& tile_;
  const std::size_t dim_;
  const std::size_t stride_;        // of sums_: value_dim in whole slices
  const std::size_t head_queries_;  // of each KV head
  const std::size_t head_bytes_;    // from one KV head of a block to the next
  const std::size_t key_bytes_;     // the first of them
  float* const q_;                  // (packs, dim, 16)
  float* const sums_;               // (queries, stride)
  float* const p_;                  // (queries, kStepTokens): scores, then their exponentials
  float* const slice_;              // (kStepTokens, 16): values transposed out of keys

  float shift_[kTileQueries];  // the running maximum
  float mass_[kTileQueries][16];
  float factors_[kTileQueries] = {};  // of the step at hand, on what was summed before it
  float ones_[kTileQueries];

  // The step at hand.
  std::size_t first_block_ = 0;
  std::size_t end_block_ = 0;
  // Of the first KV head; those of the next step behind them.
  const std::uint8_t* keys_[2 * attention::kStepBlocks];
  Range range_[kTileQueries];
  Range common_{};      // what all queries see; empty if from >= to
  bool early_ = false;  // some see more before that
};

template <class S>
void attend(const AttentionTile& tile) {
  switch (tile.layout.type) {
    case KvType::kF32:
      return TileRun<S, F32Kv<S>>(tile).run();
    case KvType::kF16:
      return TileRun<S, F16Kv<S>>(tile).run();
    case KvType::kQ8_0:
      return TileRun<S, Q8Kv<S>>(tile).run();
  }
}

}  // namespace
}  // namespace conclave::kernels
