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
#include <span>

#include "conclave/base/aligned.hpp"
#include "conclave/base/result.hpp"
#include "conclave/gguf/block_type.hpp"

namespace conclave::kernels {

inline constexpr std::size_t kPanelOutputs = 16;

/// Owns its bytes. Immutable once packed; share it between threads freely.
class PackedMatrix {
 public:
  PackedMatrix() = default;

  /// Packs `outputs` rows of `inputs` values each, stored as `type` in `data` (row-major, as in
  /// a GGUF tensor with ne = {inputs, outputs}). kInvalidArgument if the sizes do not fit.
  static base::Result<PackedMatrix> pack(gguf::BlockType type, std::span<const std::byte> data,
                                         std::size_t outputs, std::size_t inputs);

  [[nodiscard]] gguf::BlockType type() const { return type_; }
  [[nodiscard]] std::size_t outputs() const { return outputs_; }
  [[nodiscard]] std::size_t inputs() const { return inputs_; }
  [[nodiscard]] std::size_t panels() const {
    return (outputs_ + kPanelOutputs - 1) / kPanelOutputs;
  }
  [[nodiscard]] std::size_t bytes() const { return data_.size(); }
  [[nodiscard]] bool empty() const { return outputs_ == 0; }
  [[nodiscard]] const std::uint8_t* panel(std::size_t index) const {
    return data_.data() + index * panel_bytes_;
  }

 private:
  gguf::BlockType type_ = gguf::BlockType::kF32;
  std::size_t outputs_ = 0;
  std::size_t inputs_ = 0;
  std::size_t panel_bytes_ = 0;
  base::AlignedVector<std::uint8_t> data_;
};

/// True for the formats whose products take 8-bit activations (all but F32, F16, BF16).
bool takes_quantized_rows(gguf::BlockType type);

}  // namespace conclave::kernels
