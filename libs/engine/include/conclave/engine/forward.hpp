// One pass of a model over a batch of rows: the backbone, with the experts in between.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/base/result.hpp"
#include "conclave/model/backbone.hpp"
#include "conclave/model/expert_backend.hpp"
#include "conclave/model/kv_pool.hpp"

namespace conclave::engine {

/// One token of one sequence at one position. Positions below it are cached or earlier rows of the
/// same step.
struct StepRow {
  std::int32_t token = 0;
  std::uint32_t position = 0;
  model::KvTable blocks;  // of its sequence, up to this position
  bool wants_logits = false;
};

/// The rows of a step from `first` on pass only layers [begin, end) in it. A later step goes on
/// where this one ended, with the same rows in the same order, though not the same `first`; in the
/// one whose `end` is that of the model they may want logits. Until then no later positions of
/// their sequences may come. One passage at a time: the one that begins at layer 0 ends any other.
///
/// This is layered prefill (arXiv:2510.08055): a step that decodes has room for little more, and a
/// few rows of a prompt, which read most experts of each layer, use it worse than many rows in few
/// layers.
struct Passage {
  std::size_t first = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// What rows of a step made others compute.
struct StepCost {
  std::uint64_t pairs = 0;
  std::uint64_t device_us = 0;  // see model::ExpertBackend
};

/// Sees which experts the rows of a step were sent to: (rows, k) in the order of the rows.
class RoutingObserver {
 public:
  virtual ~RoutingObserver() = default;
  virtual void routed(std::uint32_t layer, const model::Routing& routing) = 0;
};

/// One user at a time. Backbone, experts and pool must outlive it. What a row computes does not
/// depend on the other rows of its step, bit for bit. After the last layer's attention, which
/// caches keys and values, rows that want no logits have nothing more to compute.
class Forward {
 public:
  Forward(model::Backbone& backbone, model::ExpertBackend& experts, const model::KvPool& pool)
      : backbone_(backbone), experts_(experts), pool_(pool) {}

  /// Runs the rows and caches their keys and values. Returns logits (rows that want them, vocab) in
  /// row order, valid until the next call. kInvalidArgument: a token outside the vocabulary, or a
  /// position beyond the blocks of its row; and what the expert backend answers. After an error the
  /// positions of the step count as not computed, and a passage in it is over. Without `passage`
  /// all rows pass all layers. With two `micro_batches` the rows go in two halves, of which one
  /// computes while others compute the experts of the other; with an observer there is one.
  base::Result<std::span<const float>> step(std::span<const StepRow> rows,
                                            const std::optional<Passage>& passage = {},
                                            std::size_t micro_batches = 1);

  /// Of each row of the last step: pairs, over its layers, that went to next-best experts because
  /// nobody had the gate's choice. Empty: none of any row, and what was computed is exact.
  [[nodiscard]] std::span<const std::uint32_t> replaced() const { return replaced_; }

  /// Of rows [first, first + count) of the last step, if it ended well. Time is shared by pairs, in
  /// whole microseconds that add up.
  [[nodiscard]] StepCost cost(std::size_t first, std::size_t count) const;

  /// Null: none. The observer must outlive its use. It sees all rows in all layers that they pass:
  /// with one, the last layer's experts are not spared.
  void observe(RoutingObserver* observer) { observer_ = observer; }

 private:
  // Rows that go through the layers together, `first` and on of the step. The first ones in x and h
  // are theirs: all, or from keep_selected() on those that want logits.
  struct MicroBatch {
    std::size_t first = 0;
    std::size_t rows = 0;
    Passage part;                       // of these rows
    std::span<std::uint32_t> selected;  // rows that want logits
    bool only_selected = false;
    float* x = nullptr;
    float* h = nullptr;
    model::BackboneStep step;
    // Of the layer whose experts are under way.
    bool waits = false;
    std::uint32_t layer = 0;
    std::uint64_t absences = 0;  // before its gate
    model::Routing routing;
    std::vector<model::ExpertPair> pairs;
    std::vector<const float*> outputs;
  };

  base::Status prepare(std::span<const StepRow> rows);
  void enter(std::size_t through, bool goes_on);
  void split(std::size_t rows, const Passage& part, std::size_t micro_batches);
  base::Status layers();
  void enter_layer(std::size_t batch, std::uint32_t layer);
  void start_experts(std::size_t batch);
  base::Status finish_experts(std::size_t batch);
  void note_replaced(const MicroBatch& batch);
  void note_pairs(const MicroBatch& batch);
  void keep_selected(MicroBatch& batch);
  void gather_selected();
  [[nodiscard]] static std::size_t row_of_step(const MicroBatch& batch, std::size_t row) {
    return batch.first + (batch.only_selected ? batch.selected[row] : row);
  }

  model::Backbone& backbone_;
  model::ExpertBackend& experts_;
  const model::KvPool& pool_;
  RoutingObserver* observer_ = nullptr;

  std::vector<std::int32_t> tokens_;
  std::vector<model::RowPlace> places_;
  std::vector<std::uint32_t> selected_;  // rows that want logits
  std::array<MicroBatch, model::kMicroBatchesMax> batches_;
  std::size_t batch_count_ = 1;
  std::vector<std::uint32_t> replaced_;
  std::vector<std::uint32_t> row_pairs_;
  StepCost cost_;  // of all rows
  base::AlignedVector<float> x_, h_, logits_;
  base::AlignedVector<float> held_;  // x of the rows of a passage between steps
};

}  // namespace conclave::engine
