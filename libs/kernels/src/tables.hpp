// The tables; kernel_table() picks among them.
#pragma once

#include <cstddef>

#include "conclave/kernels/kernel_table.hpp"

namespace conclave::kernels {

extern constinit const KernelTable kScalarTable;
extern constinit const KernelTable kAvx2Table;
extern constinit const KernelTable kAvx512Table;

/// KernelTable::matmul on AMX. What has few rows, and formats that tiles do not suit, it hands to
/// kAvx512Table.
void multiply_on_tiles(const Product& product, std::size_t panel_begin, std::size_t panel_end);
/// Whether it keeps a product to tiles. Each call then begins with work of its own: bringing the
/// rows together takes as long as multiplying them with two panels. Call it where AMX is supported
/// only.
bool takes_tiles(const Product& product);

/// Panels from which on kAvx512Table may work on four runs of them at the same time, and whether it
/// does of such a product.
inline constexpr std::size_t kLeastStreamPanels = 8;
bool takes_streams(const Product& product);

/// Panels that kAvx512Table may take together, and whether it does of such a product.
inline constexpr std::size_t kSetPanels = 2;
bool takes_sets(const Product& product);

}  // namespace conclave::kernels
