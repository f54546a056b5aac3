// The experts that one process hosts: any subset of a model's, each with the room of its products.
// This is the whole of what a worker computes; it knows no sequence, no gate and no network.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/base/result.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/model/config.hpp"
#include "conclave/model/experts.hpp"
#include "conclave/model/pair_order.hpp"

namespace conclave::model {

/// Used by one thread. Experts are loaded anywhere (`load_expert`) and moved in between calls of
/// `run`. Its room for products grows to the largest call: rows are bounded by whoever admits them.
class ExpertSet {
 public:
  /// `compute` must outlive the set.
  ExpertSet(const ModelConfig& config, const kernels::Compute& compute);

  /// Hosts `expert` from now on, in place of the one that had its id. kInvalidArgument: the model
  /// has no such expert, or the matrices are not of its shape.
  base::Status insert(ExpertId id, Expert expert);

  /// True if it was hosted.
  bool erase(ExpertId id);

  [[nodiscard]] bool has(ExpertId id) const { return find(id) != nullptr; }
  [[nodiscard]] std::size_t size() const { return size_; }
  /// Bytes of the packed weights of all hosted experts.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  /// y[p, :] = expert(pairs[p].expert)(x[pairs[p].row, :]), unweighted. `pairs` come sorted by
  /// (expert, row), as PairOrder sorts them. x (rows, hidden) holds the forms that the experts take
  /// (RowForms); `sums` may be absent beside `quants` and are then computed here. y (pairs,
  /// hidden) is the caller's, written directly by the products: 64-byte alignment makes them fast,
  /// 4 bytes are needed. The bits of a pair depend on its row and expert only, not on what else is
  /// hosted or asked. kNotFound: an expert is not hosted. kInvalidArgument: pairs unsorted or out
  /// of range, a layer without experts, or rows without the form that is needed. Nothing is written
  /// after an error.
  base::Status run(std::uint32_t layer, const kernels::RowsView& x,
                   std::span<const ExpertPair> pairs, float* y);

 private:
  // A run of pairs of one expert: [first, first + count) of the call's pairs.
  struct Group {
    const Expert* expert = nullptr;
    std::size_t first = 0;
    std::size_t count = 0;
    std::size_t tiles = 0;  // of each stage, at most; one: a single task does both
    std::uint32_t inner_tiles = 0;
    std::size_t inner_end = 0;  // the task after them
  };
  // Outputs [begin, end) of the inner rows of a group, or of its down product; or all of both.
  enum class Stage : std::uint8_t { kInner, kDown, kBoth };
  struct Task {
    std::size_t group = 0;
    Stage stage = Stage::kBoth;
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  [[nodiscard]] const Expert* find(ExpertId id) const;
  base::Status group(std::uint32_t layer, const kernels::RowsView& x,
                     std::span<const ExpertPair> pairs);
  base::Status complete_rows(kernels::RowsView& x);
  void make_room();
  void plan();
  void add_tiles(std::size_t group, Stage stage, std::size_t wanted);
  void run_task(const Task& task, const kernels::RowsView& x, unsigned thread, float* y);
  void run_inner(const Task& task, const kernels::RowsView& x, unsigned thread);
  void inner_rows(const Task& task, const kernels::RowsView& x, std::size_t first,
                  std::size_t count, float* gate, float* up);
  void await_inner(std::size_t group);
  void run_down(const Task& task, float* y);
  void add_bias_part(const Linear& linear, const Task& task, float* y) const;

  ModelConfig config_;
  kernels::Compute compute_;
  std::vector<std::unique_ptr<Expert>> experts_;  // (layer - dense_layers, expert); null: not here
  std::size_t size_ = 0;
  std::size_t bytes_ = 0;

  // Room for one call, reused.
  std::vector<Group> groups_;
  std::vector<std::uint32_t> rows_;  // the row of each pair
  std::vector<Task> tasks_;
  std::vector<std::atomic<std::uint32_t>> inner_done_;  // (experts): tiles, for each of groups_
  kernels::RowSumsRoom sums_;
  // Gate and up products: of each thread (2, kInnerRows, ffn), which stay in its cache.
  base::AlignedVector<float> products_;
  base::AlignedVector<float> floats_;  // (pairs, ffn): inner rows that down products take as floats
  kernels::QuantizedRows inner_;       // and those that they take rounded
};

}  // namespace conclave::model
