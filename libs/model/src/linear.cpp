#include "conclave/model/linear.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "conclave/base/check.hpp"

namespace conclave::model {

kernels::RowsView SharedRows::with_scales(std::size_t block) {
  if (block == 0) return {.values = values_, .rows = rows_, .columns = columns_};
  if (block_ != block) kernels::quantize(compute_, values_, rows_, columns_, block, room_);
  block_ = block;
  return room_.view(values_);
}

void apply(const kernels::Compute& compute, const Linear& linear, SharedRows& x, float* y) {
  apply(compute, {{linear, y}}, x);
}

void apply(const kernels::Compute& compute, std::initializer_list<LinearCall> calls,
           SharedRows& x) {
  std::array<kernels::Product, kMaxLinearCalls> products;
  CONCLAVE_CHECK(calls.size() <= products.size());
  std::size_t block = 0;  // one that serves them all
  for (const LinearCall& call : calls) {
    block = std::max(block, kernels::scale_block(call.linear.weight.type()));
  }
  const kernels::RowsView rows = x.with_scales(block);
  std::size_t count = 0;
  for (const LinearCall& call : calls) {
    products[count++] = {&call.linear.weight, rows,   nullptr,
                         rows.rows,           call.y, call.linear.outputs()};
  }
  kernels::matmul(compute, std::span(products).first(count));
  for (const LinearCall& call : calls) {
    if (call.linear.bias.empty()) continue;
    compute.pool.for_shares(x.rows(), [&](std::size_t row, unsigned) {
      add_bias(compute, call.linear.bias, call.y + row * call.linear.outputs());
    });
  }
}

void add_bias(const kernels::Compute& compute, const std::vector<float>& bias, float* y) {
  if (!bias.empty()) compute.kernels.axpy(1.0f, bias.data(), bias.size(), y);
}

}  // namespace conclave::model
