#include "conclave/kernels/isa.hpp"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace conclave::kernels {

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "scalar";
}

namespace {

// clang 14 has no __builtin_cpu_supports("f16c").
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// Linux lets a process use tile registers once it has asked (arch_prctl(2)); what asks is asked
// for all of its threads.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kBits = bit_AMX_TILE | bit_AMX_INT8 | bit_AMX_BF16;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kBits) == kBits;
}

}  // namespace

bool supported(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return true;
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
             has_f16c();
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
             __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
             __builtin_cpu_supports("avx512vnni") != 0;
    case Isa::kAmx: {
      static const bool is_supported = supported(Isa::kAvx512) && has_amx() && may_use_tiles();
      return is_supported;
    }
  }
  return false;
}

Isa best_isa() { return *std::find_if(kIsas.rbegin(), kIsas.rend(), supported); }

base::Result<Isa> choose_isa(std::string_view name) {
  if (name.empty()) return best_isa();
  for (const Isa isa : kIsas) {
    if (name != to_string(isa)) continue;
    if (supported(isa)) return isa;
    return base::fail(base::ErrorCode::kUnavailable,
                      "this machine has no " + std::string(name) + " instructions");
  }
  return base::fail(
      base::ErrorCode::kInvalidArgument,
      "no such instruction set: '" + std::string(name) + "' (known: scalar, avx2, avx512, amx)");
}

}  // namespace conclave::kernels
