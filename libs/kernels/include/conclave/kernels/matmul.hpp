// Matrix products over a thread pool: one product, or the many small ones of a layer's experts.
#pragma once

#include <cstddef>
#include <span>

#include "conclave/base/thread_pool.hpp"
#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {

/// What every computation needs: the kernels and the threads. Borrowed, one user at a time.
struct Compute {
  const KernelTable& kernels;
  base::ThreadPool& pool;
};

/// Runs all products, split into tiles of panels that the threads share.
void matmul(const Compute& compute, std::span<const Product> products);

/// y (rows, outputs) = x W^T, row-major without gaps.
void matmul(const Compute& compute, const PackedMatrix& weights, const RowsView& x, float* y);

/// Fills `out` with the 8-bit form of x (rows, columns), `block` values to a scale (see
/// scale_block), and returns a view of both forms.
RowsView quantize(const Compute& compute, const float* x, std::size_t rows, std::size_t columns,
                  std::size_t block, QuantizedRows& out);

}  // namespace conclave::kernels
