#include "conclave/kernels/matmul.hpp"

#include <algorithm>
#include <cstddef>

#include "conclave/base/check.hpp"

namespace conclave::kernels {
namespace {

// A tile of work is a run of panels of one product. There are so many tiles for each thread that
// none waits long for the last one, yet they are large beside the cost of handing one out (about
// 0.1 us).
constexpr std::size_t kTilesPerThread = 16;
// A tile of many rows begins with work of its own: AMX brings them together, which takes as long as
// multiplying them with two panels. So it has more panels, where that leaves each thread two tiles.
constexpr std::size_t kManyRows = 9;
constexpr std::size_t kManyRowsPanels = 16;
constexpr std::size_t kManyRowsTilesPerThread = 2;

std::size_t panels_per_tile(std::span<const Product> products, unsigned threads) {
  std::size_t panels = 0;
  std::size_t rows = 0;
  for (const Product& product : products) {
    panels += product.weights->panels();
    rows = std::max(rows, product.count);
  }
  std::size_t tile = std::max<std::size_t>(1, panels / (kTilesPerThread * threads));
  if (rows >= kManyRows) {
    tile = std::max(tile, std::min(kManyRowsPanels, panels / (kManyRowsTilesPerThread * threads)));
  }
  return tile;
}

}  // namespace

void matmul(const Compute& compute, std::span<const Product> products) {
  const std::size_t step = panels_per_tile(products, compute.pool.threads());
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
  compute.pool.for_each(rows, [&](std::size_t row, unsigned) {
    compute.kernels.quantize_row(x + row * columns, columns, block, out.quants(row),
                                 out.scales(row), out.sums(row));
  });
  return out.view(x);
}

}  // namespace conclave::kernels
