// Makes the KernelTable of one Simd backend. Included by the three kernels_*.cpp only, each of
// which is compiled with the flags of its instruction set. All code there has internal linkage: of
// a shared inline function the linker keeps one copy, and it could be one that this machine cannot
// run.
#pragma once

#include "attention_kernel.hpp"
#include "kv_store_kernel.hpp"
#include "logit_kernel.hpp"
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
  table.sum_row = V::sum_row;
  table.rms_norm = V::rms_norm;
  table.axpy = V::axpy;
  table.add_weighted = V::add_weighted;
  table.swiglu = V::swiglu;
  table.swiglu_clamped = V::swiglu_clamped;
  table.exp_sum = V::exp_sum;
  table.sigmoid = V::sigmoid;
  table.max = V::max;
  using L = LogitKernels<S>;
  table.block_maxima = L::block_maxima;
  table.at_least = L::at_least;
  table.exp_scaled = L::exp_scaled;
  table.exp_masses = L::exp_masses;
  table.top_k = top_k;
  table.attend = attend<S>;
  table.store_kv = store_kv<S>;
  return table;
}

}  // namespace
}  // namespace conclave::kernels
