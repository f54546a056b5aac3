#include "conclave/kernels/kernel_table.hpp"

#include "conclave/base/check.hpp"
#include "tables.hpp"

namespace conclave::kernels {

const KernelTable& kernel_table(Isa isa) {
  CONCLAVE_CHECK(supported(isa));
  switch (isa) {
    case Isa::kScalar:
      return kScalarTable;
    case Isa::kAvx2:
      return kAvx2Table;
    case Isa::kAvx512:
      return kAvx512Table;
  }
  return kScalarTable;
}

}  // namespace conclave::kernels
