#include "microarch.hpp"

#include <cpuid.h>

namespace conclave::kernels {
namespace {

// AMD's "Family" of cpuid: the base family and, if that is 15, the extended one added to it.
unsigned family() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return 0;
  const unsigned base = eax >> 8 & 0xF;
  return base == 0xF ? base + (eax >> 20 & 0xFF) : base;
}

Microarch find_microarch() {
  constexpr unsigned kZen5Family = 0x1A;
  if (__builtin_cpu_is("intel") != 0) return Microarch::kIntel;
  if (__builtin_cpu_is("amd") != 0 && family() >= kZen5Family) return Microarch::kZen5;
  return Microarch::kOther;
}

}  // namespace

Microarch microarch() {
  static const Microarch found = find_microarch();
  return found;
}

}  // namespace conclave::kernels
