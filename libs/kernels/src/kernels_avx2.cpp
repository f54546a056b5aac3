#include "kernel_instance.hpp"
#include "simd_avx2.hpp"
#include "tables.hpp"

namespace conclave::kernels {

constinit const KernelTable kAvx2Table = make_kernel_table<SimdAvx2>(Isa::kAvx2);

}  // namespace conclave::kernels
