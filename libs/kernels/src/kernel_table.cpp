#include "conclave/kernels/kernel_table.hpp"

#include "conclave/base/check.hpp"
#include "tables.hpp"

namespace conclave::kernels {
namespace {

// Tiles multiply; all else runs on AVX-512.
KernelTable make_amx_table() {
  KernelTable table = kAvx512Table;
  table.isa = Isa::kAmx;
  table.matmul = multiply_on_tiles;
  return table;
}

}  // namespace

const KernelTable& kernel_table(Isa isa) {
  CONCLAVE_CHECK(supported(isa));
  switch (isa) {
    case Isa::kScalar:
      return kScalarTable;
    case Isa::kAvx2:
      return kAvx2Table;
    case Isa::kAvx512:
      return kAvx512Table;
    case Isa::kAmx: {
      static const KernelTable table = make_amx_table();
      return table;
    }
  }
  return kScalarTable;
}

}  // namespace conclave::kernels
