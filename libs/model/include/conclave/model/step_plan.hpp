// How the attention layers of a step cut its rows into tasks, and the scratch room that they share.
// The cut changes speed, never a bit of a result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/kv_pool.hpp"

namespace conclave::model {

/// Where a row of a step stands: its position, and the blocks of its sequence up to that one. Rows
/// of one sequence stand together in rising positions; every earlier position is cached already.
struct RowPlace {
  KvTable blocks;
  std::uint32_t position = 0;
};

/// Consecutive rows of one sequence.
struct RowRun {
  std::uint32_t first = 0;  // row of the step
  std::uint32_t count = 0;
};

/// Rows of one sequence that attend together, with query heads [first, first + count) of each of
/// the KV heads [kv_first, kv_first + kv_count). rows.count * kv_count * count <= kTileQueries.
struct AttentionTask {
  RowRun rows;
  std::uint32_t kv_first = 0;
  std::uint32_t kv_count = 0;
  std::uint32_t first = 0;  // of the query heads that share a KV head
  std::uint32_t count = 0;
};

/// Made once, built anew for each step, used by one step at a time.
class StepPlan {
 public:
  /// `threads` will share the tasks of `pool`'s attention.
  void build(const ModelConfig& config, std::span<const RowPlace> places, const KvPool& pool,
             unsigned threads);

  /// The runs of rows that lie in one KV block each: what is written together.
  [[nodiscard]] std::span<const RowRun> blocks() const { return blocks_; }

  /// Each row and head once, what takes the most work first. A task is one tile of the kernels.
  [[nodiscard]] std::span<const AttentionTask> tasks() const { return tasks_; }

  /// Scratch of a thread for one tile.
  [[nodiscard]] float* room(unsigned thread) { return room_.data() + thread * room_floats_; }

 private:
  void build_tasks(const AttentionConfig& attention, std::span<const RowPlace> places,
                   const kernels::KvLayout& layout, unsigned threads);

  std::vector<RowRun> blocks_;
  std::vector<RowRun> tiles_;  // the rows of tasks
  std::vector<AttentionTask> tasks_;
  std::size_t room_floats_ = 0;
  base::AlignedVector<float> room_;
};

/// Rows between the parts of an attention layer; each only grows. One for all layers: they run one
/// after the other, and what one left is still in the processor's caches.
struct AttentionScratch {
  base::AlignedVector<float> q, k, v, attended;                // both kinds
  base::AlignedVector<float> low, by_head, absorbed, context;  // latent attention
  std::vector<kernels::Product> products;
  kernels::QuantizedRows quantized;
};

}  // namespace conclave::model
