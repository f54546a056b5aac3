// A weight matrix with its optional bias, and the scratch room that its products share.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <vector>

#include "conclave/base/aligned.hpp"
#include "conclave/kernels/matmul.hpp"
#include "conclave/kernels/packed_matrix.hpp"

namespace conclave::model {

struct Linear {
  kernels::PackedMatrix weight;
  std::vector<float> bias;  // (outputs), or empty

  [[nodiscard]] std::size_t outputs() const { return weight.outputs(); }
};

/// Float rows (rows, columns) and, once some product asked for it, their 8-bit form: rows that feed
/// several matrices are rounded once, or anew for matrices that want another number of values to a
/// scale.
class SharedRows {
 public:
  SharedRows(const kernels::Compute& compute, const float* values, std::size_t rows,
             std::size_t columns, kernels::QuantizedRows& room)
      : compute_(compute), values_(values), rows_(rows), columns_(columns), room_(room) {}

  /// Both forms, the second rounded with `block` values to a scale (kernels::scale_block); floats
  /// alone if that is 0. It replaces what earlier calls gave.
  kernels::RowsView with_scales(std::size_t block);

  [[nodiscard]] std::size_t rows() const { return rows_; }

 private:
  const kernels::Compute& compute_;
  const float* values_;
  std::size_t rows_;
  std::size_t columns_;
  kernels::QuantizedRows& room_;
  std::size_t block_ = 0;  // of what `room_` holds
};

/// y (rows, outputs) = x W^T + bias.
void apply(const kernels::Compute& compute, const Linear& linear, SharedRows& x, float* y);

/// Several products of the same rows, at most kMaxLinearCalls (checked), as one group: one barrier
/// instead of one each.
inline constexpr std::size_t kMaxLinearCalls = 4;
struct LinearCall {
  const Linear& linear;
  float* y;
};
void apply(const kernels::Compute& compute, std::initializer_list<LinearCall> calls, SharedRows& x);

/// y row += bias; nothing if the bias is empty.
void add_bias(const kernels::Compute& compute, const std::vector<float>& bias, float* y);

}  // namespace conclave::model
