// The activation between the up and down products of a feed-forward network.
#pragma once

#include "conclave/kernels/kernel_table.hpp"
#include "conclave/model/architecture.hpp"

namespace conclave::model {

/// gate (n) = act(gate, up).
inline void activate(const kernels::KernelTable& kernels, ExpertActivation activation, float* gate,
                     const float* up, std::size_t n) {
  switch (activation) {
    case ExpertActivation::kSwiglu:
      return kernels.swiglu(gate, up, n);
    // Constants of gpt-oss (ggml's swiglu_oai).
    case ExpertActivation::kSwigluClamped:
      return kernels.swiglu_clamped(gate, up, n, 1.702f, 7.0f);
  }
}

}  // namespace conclave::model
