#include "conclave/base/aligned.hpp"

#include <sys/mman.h>

#include <new>

namespace conclave::base {
namespace {

std::align_val_t alignment(std::size_t bytes) {
  return std::align_val_t{bytes < kHugePage ? kCacheLine : kHugePage};
}

}  // namespace

void* allocate_aligned(std::size_t bytes) {
  void* const data = ::operator new(bytes, alignment(bytes));
  const std::size_t whole = bytes / kHugePage * kHugePage;
  if (whole > 0) ::madvise(data, whole, MADV_HUGEPAGE);  // without them it is slower, that is all
  return data;
}

void free_aligned(void* data, std::size_t bytes) { ::operator delete(data, alignment(bytes)); }

}  // namespace conclave::base
