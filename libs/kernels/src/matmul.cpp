#include "conclave/kernels/matmul.hpp"

#include <algorithm>
#include <cstddef>

#include "conclave/base/check.hpp"
#include "tables.hpp"

namespace conclave::kernels {
namespace {

// A tile of work is a run of panels of one product. There are so many for each thread that none
// waits long for the last one, yet they are large beside the cost of handing one out (about 0.1
// us).
constexpr std::size_t kTilesPerThread = 16;
// On AMX they are large beside what a call begins with, too, and few rows want panels enough for
// streams: down to so many tiles for each thread.
constexpr std::size_t kLargeTilePanels = 16;
constexpr std::size_t kLargeTilesPerThread = 2;

std::size_t panels_per_tile(const Compute& compute, std::span<const Product> products) {
  const Isa isa = compute.kernels.isa;
  std::size_t panels = 0;
  bool on_tiles = false;
  bool in_streams = false;
  bool in_sets = false;
  for (const Product& product : products) {
    panels += product.weights->panels();
    on_tiles = on_tiles || (isa == Isa::kAmx && takes_tiles(product));
    in_streams = in_streams || (isa >= Isa::kAvx512 && takes_streams(product));
    in_sets = in_sets || (isa >= Isa::kAvx512 && takes_sets(product));
  }
  const std::size_t threads = compute.pool.threads();
  const std::size_t tiles = threads * std::clamp(panels / (kLargeTilePanels * threads),
                                                 kLargeTilesPerThread, kTilesPerThread);
  const std::size_t large = (panels + tiles - 1) / tiles;
  if (on_tiles || (in_streams && large >= kLeastStreamPanels)) return large;
  const std::size_t small = std::max<std::size_t>(1, panels / (kTilesPerThread * threads));
  return in_sets ? (small + kSetPanels - 1) / kSetPanels * kSetPanels : small;
}

}  // namespace

void matmul(const Compute& compute, std::span<const Product> products) {
  const std::size_t step = panels_per_tile(compute, products);
  std::size_t tiles = 0;
  for (const Product& product : products) {
    CONCLAVE_CHECK(product.x.columns == product.weights->inputs());
    tiles += (product.weights->panels() + step - 1) / step;
  }
  compute.pool.for_each(tiles, [&](std::size_t tile, unsigned) {
    const Product* product = products.data();
    for (;; ++product) {  // few products: a walk is cheaper than a table of offsets
      const std::size_t own = (product->weights->panels() + step - 1) / step;
      if (tile < own) break;
      tile -= own;
    }
    const std::size_t begin = tile * step;
    compute.kernels.matmul(*product, begin, std::min(begin + step, product->weights->panels()));
  });
}

void matmul(const Compute& compute, const PackedMatrix& weights, const RowsView& x, float* y) {
  const Product product{&weights, x, nullptr, x.rows, y, weights.outputs()};
  matmul(compute, std::span(&product, 1));
}

RowsView quantize(const Compute& compute, const float* x, std::size_t rows, std::size_t columns,
                  std::size_t block, QuantizedRows& out) {
  CONCLAVE_CHECK(columns % block == 0);
  out.resize(rows, columns);
  compute.pool.for_shares(rows, [&](std::size_t row, unsigned) {
    compute.kernels.quantize_row(x + row * columns, columns, block, out.quants(row),
                                 out.scales(row), out.sums(row));
  });
  return out.view(x);
}

}  // namespace conclave::kernels
