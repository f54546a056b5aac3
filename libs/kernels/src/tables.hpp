// The three tables; kernel_table() picks among them.
#pragma once

#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {

extern const KernelTable kScalarTable;
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;

}  // namespace conclave::kernels
