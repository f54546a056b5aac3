// The kernels of one instruction set, as plain functions. Every table computes the same bits: each
// function documents the one order in which it adds. Callers go through matmul.hpp
// and the model library; they own threads and tiling, nothing here allocates or locks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "conclave/kernels/attention.hpp"
#include "conclave/kernels/isa.hpp"
#include "conclave/kernels/packed_matrix.hpp"
#include "conclave/kernels/rows.hpp"

namespace conclave::kernels {

/// y[i, :] = W x[index[i], :], i in [0, count). `index` null means row i. y row i starts at
/// y + i * y_stride; only columns below W.outputs() are written. All borrowed.
struct Product {
  const PackedMatrix* weights = nullptr;
  RowsView x;
  const std::uint32_t* index = nullptr;
  std::size_t count = 0;
  float* y = nullptr;
  std::size_t y_stride = 0;
};

/// Values that share one entry of block_maxima: few enough that the blocks with the best values are
/// few values together, many enough that the maxima of a vocabulary fit a core's first cache.
inline constexpr std::size_t kMaximaBlock = 64;
/// Values that share one entry of exp_masses: a draw walks the blocks, then one block's values.
inline constexpr std::size_t kMassBlock = 256;

/// Rows and a factor for each. Borrowed.
struct WeightedRows {
  const float* weights = nullptr;
  const float* const* rows = nullptr;
  std::size_t count = 0;
};

struct KernelTable {
  Isa isa = Isa::kScalar;

  /// The outputs of panels [panel_begin, panel_end) of a product.
  /// Float weights: one chain of fused multiply-adds from input 0 up. Block weights: integer dot
  /// products and their sums are exact; blocks are added in order, each by fused multiply-adds:
  ///   Q8_0, Q4_0, MXFP4  y = fma(dot, d * dx, y)
  ///   Q4_K, Q5_K         y = fma(-(dmin * sum of min * sum(x)), dx, y), then
  ///                      y = fma(d * s, dx, y), s = sum of scale * dot over 8 blocks of 32
  ///   Q6_K               y = fma(d * s, dx, y), s = sum of scale * dot over 16 blocks of 16
  /// (dx: the scale of the row's block). The 8 scales of a row's 256 inputs must be the same where
  /// scale_block says so.
  void (*matmul)(const Product& product, std::size_t panel_begin, std::size_t panel_end) = nullptr;

  /// 8-bit form of one row of n values. Each `block` values (32 or 256; n % block == 0) are rounded
  /// together: scale = max|x| / 127, quants to nearest even. A block that holds inf or NaN gets
  /// scale NaN, so that it shows in the result. Scales are written for each 32 values. sums.wide
  /// may be null if n < 256.
  void (*quantize_row)(const float* x, std::size_t n, std::size_t block, std::int8_t* quants,
                       float* scales, const RowSumsOut& sums) = nullptr;

  /// What quantize_row writes to `sums`, of n quants that are there already; n % 32 == 0.
  void (*sum_row)(const std::int8_t* quants, std::size_t n, const RowSumsOut& sums) = nullptr;

  /// out = x / sqrt(mean(x^2) + eps) * weight . In place is fine.
  void (*rms_norm)(const float* x, const float* weight, std::size_t n, float eps,
                   float* out) = nullptr;

  /// y += a * x.
  void (*axpy)(float a, const float* x, std::size_t n, float* y) = nullptr;

  /// y += the sum of weights[i] * rows[i] over i rising, then last_weight * last unless `last` is
  /// null: one chain of fused multiply-adds from zero, then one addition. Rows of n values.
  void (*add_weighted)(const WeightedRows& rows, const float* last, float last_weight,
                       std::size_t n, float* y) = nullptr;

  /// gate = silu(gate) * up.
  void (*swiglu)(float* gate, const float* up, std::size_t n) = nullptr;

  /// gpt-oss: g = min(gate, limit), u = clamp(up, -limit, limit); gate = g sigmoid(alpha g) (u+1).
  void (*swiglu_clamped)(float* gate, const float* up, std::size_t n, float alpha,
                         float limit) = nullptr;

  /// x = exp(x - shift) for n values; returns their sum (16 partial sums, then a fixed tree).
  float (*exp_sum)(float* x, std::size_t n, float shift) = nullptr;

  /// x = 1 / (1 + exp(-x)).
  void (*sigmoid)(float* x, std::size_t n) = nullptr;

  /// softmax(scale * q k^T) v of each query of a tile: the running maximum moves every 128
  /// positions, counted from 0; within, scores and values are chains of fused multiply-adds. What
  /// a query does not see is never touched by its arithmetic.
  void (*attend)(const AttentionTile& tile) = nullptr;

  /// Writes keys and values to a KV block, rounded to its type (nearest even).
  void (*store_kv)(const KvRows& rows) = nullptr;

  /// The largest of n >= 1 values.
  float (*max)(const float* x, std::size_t n) = nullptr;

  /// maxima[b] = the largest of the values [64 b, 64 b + 64) of x, for each block begun; `copy` (n,
  /// or null) = x. False if a value is infinite or NaN: then the maxima say nothing.
  bool (*block_maxima)(const float* x, std::size_t n, float* maxima, float* copy) = nullptr;

  /// Copies the values of x that are at least `least`, in order, to `values` and their places to
  /// `ids`; returns how many. `maxima` are those of block_maxima. Both need room for n + 16.
  std::size_t (*at_least)(const float* x, std::size_t n, const float* maxima, float least,
                          std::int32_t* ids, float* values) = nullptr;

  /// out = exp((x - shift) / divisor) with exp_sum's exp, which never gives 0.
  void (*exp_scaled)(const float* x, std::size_t n, float shift, float divisor,
                     float* out) = nullptr;

  /// masses[b] = the sum of what exp_scaled gives for the values [256 b, 256 b + 256), for each
  /// block begun: 16 partial sums of doubles, then a fixed tree.
  void (*exp_masses)(const float* x, std::size_t n, float shift, float divisor,
                     double* masses) = nullptr;

  /// best[0..k) = the places of the k <= n largest scores, best first, the lower place among
  /// equals; each once, also among NaN. `room` (n rounded up to a multiple of 16) is scratch.
  void (*top_k)(const float* scores, std::size_t n, std::size_t k, std::int64_t* room,
                std::uint32_t* best) = nullptr;
};

/// The table of a supported instruction set (checked).
const KernelTable& kernel_table(Isa isa);

}  // namespace conclave::kernels
