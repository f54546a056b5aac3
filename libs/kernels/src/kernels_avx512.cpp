#include "kernel_instance.hpp"
#include "simd_avx512.hpp"
#include "tables.hpp"

namespace conclave::kernels {

constinit const KernelTable kAvx512Table = make_kernel_table<SimdAvx512>(Isa::kAvx512);

bool takes_streams(const Product& product) {
  return streams_suit(product, stream_rows<SimdAvx512>(product.weights->type()));
}

}  // namespace conclave::kernels
