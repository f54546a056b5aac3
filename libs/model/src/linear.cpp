#include "conclave/model/linear.hpp"

namespace conclave::model {

kernels::RowsView SharedRows::for_weights(const kernels::PackedMatrix& weights) {
  if (!kernels::takes_quantized_rows(weights.type())) {
    return {values_, nullptr, nullptr, nullptr, rows_, columns_};
  }
  if (!quantized_) {
    kernels::quantize(compute_, values_, rows_, columns_, room_);
    quantized_ = true;
  }
  return room_.view(values_);
}

void apply(const kernels::Compute& compute, const Linear& linear, SharedRows& x, float* y) {
  const kernels::RowsView rows = x.for_weights(linear.weight);
  kernels::matmul(compute, linear.weight, rows, y);
  for (std::size_t row = 0; row < rows.rows; ++row) {
    add_bias(compute, linear.bias, y + row * linear.outputs());
  }
}

void add_bias(const kernels::Compute& compute, const std::vector<float>& bias, float* y) {
  if (!bias.empty()) compute.kernels.axpy(1.0f, bias.data(), bias.size(), y);
}

}  // namespace conclave::model
