#include "kernel_instance.hpp"
#include "simd_scalar.hpp"
#include "tables.hpp"

namespace conclave::kernels {

constinit const KernelTable kScalarTable = make_kernel_table<SimdScalar>(Isa::kScalar);

}  // namespace conclave::kernels
