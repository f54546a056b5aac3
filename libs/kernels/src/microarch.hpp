// Whose cores this process runs on, where kernels of one instruction set take different ways. The
// ways differ in speed, never in a bit of a result.
#pragma once

namespace conclave::kernels {

enum class Microarch {
  kIntel,
  kZen5,  // and later ones of AMD: 512 bits wide throughout, two loads and two dot products a cycle
  kOther,  // AMD's before, for which kernels were tuned first
};

Microarch microarch();

}  // namespace conclave::kernels
