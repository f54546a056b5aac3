// Vectors whose data starts on a cache line, as SIMD kernels and packed weights want it, or, where
// it is large, on a huge page.
#pragma once

#include <cstddef>
#include <vector>

namespace conclave::base {

inline constexpr std::size_t kCacheLine = 64;
/// Of x86-64, and the usual ones of AArch64. Where they are larger, the kernel finds no whole one
/// in most of what is asked for here, and uses small pages.
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Starts on a cache line. From kHugePage bytes on, it starts on a huge page, and the system is
/// asked to use huge pages: rows of a matrix lie a page of 4 KB or more apart. Throws
/// std::bad_alloc. `bytes` of the second are those of the first.
void* allocate_aligned(std::size_t bytes);
void free_aligned(void* data, std::size_t bytes);

template <class T>
struct CacheLineAllocator {
  using value_type = T;

  CacheLineAllocator() = default;
  template <class U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}  // NOLINT: allocators convert

  T* allocate(std::size_t n) { return static_cast<T*>(allocate_aligned(n * sizeof(T))); }
  void deallocate(T* data, std::size_t n) { free_aligned(data, n * sizeof(T)); }

  friend bool operator==(const CacheLineAllocator&, const CacheLineAllocator&) { return true; }
};

template <class T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

}  // namespace conclave::base
