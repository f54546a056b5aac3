#include "kernel_instance.hpp"
#include "simd_avx512.hpp"
#include "tables.hpp"

namespace conclave::kernels {

constinit const KernelTable kAvx512Table = make_kernel_table<SimdAvx512>(Isa::kAvx512);

}  // namespace conclave::kernels
