// Which instruction set the kernels run on. The choice changes speed, never a bit of a result.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::kernels {

enum class Isa {
  kScalar,  // plain C++, any x86-64
  kAvx2,    // AVX2 + FMA + F16C
  kAvx512,  // AVX-512 F, BW, DQ, VL and VNNI
  kAmx,     // the same, and AMX tiles with 8-bit integers and bf16
};

/// All of them, the slowest first.
inline constexpr std::array kIsas = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

std::string_view to_string(Isa isa);

/// True if this machine has the instructions and lets this process use them.
bool supported(Isa isa);

/// The fastest supported one.
Isa best_isa();

/// The set named by `name` ("scalar", "avx2", "avx512", "amx"; the value of CONCLAVE_ISA), or the
/// best one if `name` is empty. kInvalidArgument: no such name; kUnavailable: this machine lacks
/// it.
base::Result<Isa> choose_isa(std::string_view name);

}  // namespace conclave::kernels
