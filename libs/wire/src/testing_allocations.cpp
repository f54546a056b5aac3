#include "testing_allocations.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::size_t> largest_bytes = 0;
}  // namespace

void* operator new(std::size_t bytes) {
  std::size_t seen = largest_bytes;
  while (bytes > seen && !largest_bytes.compare_exchange_weak(seen, bytes)) {
  }
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace conclave::wire::testing_allocations {

void reset_largest() { largest_bytes = 0; }
std::size_t largest() { return largest_bytes; }

}  // namespace conclave::wire::testing_allocations
