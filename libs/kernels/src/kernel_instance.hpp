// Makes the KernelTable of one Simd backend. Included by the three kernels_*.cpp only, each of
// which is compiled with the flags of its instruction set. All code there has internal linkage: of
// a shared inline function the linker keeps one copy, and it could be one that this machine cannot
// run.
#pragma once

#include "matmul_kernel.hpp"
#include "vector_kernel.hpp"

namespace conclave::kernels {
namespace {

template <class S>
constexpr KernelTable make_kernel_table(Isa isa) {
  using V = VectorKernels<S>;
  KernelTable table;
  table.isa = isa;
  table.matmul = multiply_any<S>;
  table.quantize_row = V::quantize_row;
  table.rms_norm = V::rms_norm;
  table.axpy = V::axpy;
  table.add_weighted = V::add_weighted;
  table.swiglu = V::swiglu;
  table.swiglu_clamped = V::swiglu_clamped;
  table.exp_sum = V::exp_sum;
  table.sigmoid = V::sigmoid;
  table.key_scores = V::key_scores;
  table.add_values = V::add_values;
  table.max = V::max;
  return table;
}

}  // namespace
}  // namespace conclave::kernels
