// A weight matrix as the kernels read it. Rows of a file's tensor (one row = one output) are
// regrouped into panels of 16 outputs whose values for one input stand side by side, so that each
// SIMD lane reduces one output from its first input to its last: the order of additions, and with
// it every bit, is the same for any number of lanes and of activation rows (promise 1).
//
// It keeps the precision of the file: block formats stay in their 4 to 8 bits with their scales.
// It does not multiply: matmul.hpp does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "conclave/base/arena.hpp"
#include "conclave/base/result.hpp"
#include "conclave/gguf/block_type.hpp"

namespace conclave::kernels {

inline constexpr std::size_t kPanelOutputs = 16;

/// Owns its bytes. Immutable once packed; share it between threads freely. Packing takes about as
/// long as copying: weights may be packed anew at each start.
class PackedMatrix {
 public:
  PackedMatrix() = default;

  /// Packs `outputs` rows of `inputs` values each, stored as `type` in `data` (row-major, as in
  /// a GGUF tensor with ne = {inputs, outputs}). kInvalidArgument if the sizes do not fit;
  /// kOverloaded: no memory.
  static base::Result<PackedMatrix> pack(gguf::BlockType type, std::span<const std::byte> data,
                                         std::size_t outputs, std::size_t inputs);

  /// The same in two steps. The first makes room for it in `arena`, which may go before it.
  static base::Result<PackedMatrix> create(gguf::BlockType type, std::size_t outputs,
                                           std::size_t inputs, base::Arena& arena);
  /// The second packs panels, from `rows`: those of the panels from `first_panel` on, of as many
  /// panels as they fill; the last one of the matrix may have fewer than 16 rows (all checked).
  /// Once for each panel; different panels by different threads if you like.
  void fill(std::size_t first_panel, std::span<const std::byte> rows);

  [[nodiscard]] gguf::BlockType type() const { return type_; }
  [[nodiscard]] std::size_t outputs() const { return outputs_; }
  [[nodiscard]] std::size_t inputs() const { return inputs_; }
  [[nodiscard]] std::size_t panels() const {
    return (outputs_ + kPanelOutputs - 1) / kPanelOutputs;
  }
  [[nodiscard]] std::size_t bytes() const { return block_.size(); }
  [[nodiscard]] bool empty() const { return outputs_ == 0; }
  [[nodiscard]] const std::uint8_t* panel(std::size_t index) const {
    return reinterpret_cast<const std::uint8_t*>(block_.data()) + index * panel_bytes_;
  }

 private:
  gguf::BlockType type_ = gguf::BlockType::kF32;
  std::size_t outputs_ = 0;
  std::size_t inputs_ = 0;
  std::size_t panel_bytes_ = 0;
  base::ArenaBlock block_;
};

/// Bytes that a matrix takes once it is packed; nothing if there is none of these sizes.
std::optional<std::size_t> packed_bytes(gguf::BlockType type, std::size_t outputs,
                                        std::size_t inputs);

/// Values of an activation row that share one scale where it is multiplied with such weights: as
/// many as share the weights' outermost scale, 32 or, with K-quants, 256. 0: they take floats (F32,
/// F16, BF16). Rows that are rounded for 256 serve the others too.
std::size_t scale_block(gguf::BlockType type);

}  // namespace conclave::kernels
