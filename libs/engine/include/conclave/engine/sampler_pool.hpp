// The rows of a step sampled side by side: a Sampler for each thread of a pool.
#pragma once

#include <cstddef>
#include <vector>

#include "conclave/base/thread_pool.hpp"
#include "conclave/engine/sampler.hpp"
#include "conclave/kernels/matmul.hpp"

namespace conclave::engine {

/// Which Sampler a row gets never shows in its result. One caller at a time.
class SamplerPool {
 public:
  /// What `compute` refers to must outlive the pool of samplers.
  explicit SamplerPool(const kernels::Compute& compute) : pool_(compute.pool) {
    for (unsigned i = 0; i < pool_.threads(); ++i) samplers_.emplace_back(compute.kernels);
  }

  /// Calls body(row, sampler) once for each row in [0, rows), rows of different threads at a time;
  /// returns when all have ended. The body writes only what belongs to its row.
  template <class Body>
  void for_each(std::size_t rows, Body&& body) {
    pool_.for_each(rows, [&](std::size_t row, unsigned thread) { body(row, samplers_[thread]); });
  }

 private:
  base::ThreadPool& pool_;
  std::vector<Sampler> samplers_;
};

}  // namespace conclave::engine
