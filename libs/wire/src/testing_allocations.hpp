// What the tests' program asks operator new for. Any thread.
#pragma once

#include <cstddef>

namespace conclave::wire::testing_allocations {

void reset_largest();

/// Bytes of the largest single allocation since the last reset.
std::size_t largest();

}  // namespace conclave::wire::testing_allocations
