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
/// several matrices are rounded once.
class SharedRows {
 public:
  SharedRows(const kernels::Compute& compute, const float* values, std::size_t rows,
             std::size_t columns, kernels::QuantizedRows& room)
      : compute_(compute), values_(values), rows_(rows), columns_(columns), room_(room) {}

  /// The form that `weights` multiplies with.
  kernels::RowsView for_weights(const kernels::PackedMatrix& weights);

  [[nodiscard]] std::size_t rows() const { return rows_; }

 private:
  const kernels::Compute& compute_;
  const float* values_;
  std::size_t rows_;
  std::size_t columns_;
  kernels::QuantizedRows& room_;
  bool quantized_ = false;
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
