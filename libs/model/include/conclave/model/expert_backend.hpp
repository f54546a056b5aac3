// The seam at which experts leave the process: the forward pass asks for the outputs of a layer's
// pairs and does not know who computes them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "conclave/base/result.hpp"
#include "conclave/model/pair_order.hpp"

namespace conclave::model {

/// How many parts of a step may have experts under way at once: while those of one are computed
/// elsewhere, the caller computes another one.
inline constexpr std::size_t kMicroBatchesMax = 2;

/// Computes the expert outputs of one layer for a batch of rows. LocalExperts here; the router's
/// dispatcher implements it over workers. One caller at a time.
class ExpertBackend {
 public:
  virtual ~ExpertBackend() = default;

  /// outputs[p] = `hidden` floats, expert(pairs[p].expert)(x[pairs[p].row, :]), unweighted; x
  /// (rows, hidden); as many outputs as pairs. The floats belong to the backend and are valid until
  /// its next call; 4-byte alignment is all that is promised. The bits of a pair depend on its row
  /// and expert only. kInvalidArgument: a pair names a row, layer or expert that is not there;
  /// kUnavailable and others as the backend documents: `outputs` then means nothing.
  virtual base::Status run(std::uint32_t layer, const float* x, std::size_t rows,
                           std::span<const ExpertPair> pairs, std::span<const float*> outputs) = 0;

  /// True if others compute, elsewhere, so that the caller's own work can go on meanwhile.
  [[nodiscard]] virtual bool is_remote() const { return false; }

  /// run() in two halves, for one micro-batch (below kMicroBatchesMax) while another has its own
  /// under way. x and pairs must stay until finish(), which says how it went and fills `outputs`;
  /// they are valid until the next run(), finish(), or start() of the same micro-batch. By default
  /// finish() does all of it.
  virtual void start(std::size_t batch, std::uint32_t layer, const float* x, std::size_t rows,
                     std::span<const ExpertPair> pairs) {
    started_[batch] = {layer, x, rows, pairs};
  }
  virtual base::Status finish(std::size_t batch, std::span<const float*> outputs) {
    const Started& all = started_[batch];
    return run(all.layer, all.x, all.rows, all.pairs, outputs);
  }
  /// Gives up what was started and not finished, and the outputs of what was.
  virtual void end_step() {}

  /// Experts of this layer that nobody computes now and that a gate shall do without where it can,
  /// (experts) of 0 and 1, or empty: none. Pairs of such experts may be asked for all the same; the
  /// backend then waits until somebody has them again. Valid until the next call of a member.
  [[nodiscard]] virtual std::span<const std::uint8_t> absent(std::uint32_t /*layer*/) const {
    return {};
  }
  /// Rises whenever absent() of some layer changes. A run() that finds experts absent which it did
  /// not know to be ends with kUnavailable after it has raised this: gate again.
  [[nodiscard]] virtual std::uint64_t absences() const { return 0; }

  /// Time that devices have computed for what run() gave out, over all runs, in microseconds, of
  /// calls that were computed together with others' their share by pairs; 0: this process computes,
  /// and nobody measures.
  [[nodiscard]] virtual std::uint64_t device_us() const { return 0; }

 private:
  struct Started {
    std::uint32_t layer = 0;
    const float* x = nullptr;
    std::size_t rows = 0;
    std::span<const ExpertPair> pairs;
  };
  std::array<Started, kMicroBatchesMax> started_;
};

}  // namespace conclave::model
