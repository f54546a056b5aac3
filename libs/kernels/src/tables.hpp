// The three tables; kernel_table() picks among them.
#pragma once

#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {

extern constinit const KernelTable kScalarTable;
extern constinit const KernelTable kAvx2Table;
extern constinit const KernelTable kAvx512Table;

}  // namespace conclave::kernels
