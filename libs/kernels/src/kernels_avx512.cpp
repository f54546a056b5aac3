#include "kernel_instance.hpp"
#include "simd_avx512.hpp"
#include "tables.hpp"

namespace conclave::kernels {

constinit const KernelTable kAvx512Table = make_kernel_table<SimdAvx512>(Isa::kAvx512);

bool takes_streams(const Product& product) {
  return scale_block(product.weights->type()) > 0 && streams_suit(product, kTileRows<SimdAvx512>);
}

bool takes_sets(const Product& product) {
  return scale_block(product.weights->type()) > 0 && sets_suit(product);
}

}  // namespace conclave::kernels
