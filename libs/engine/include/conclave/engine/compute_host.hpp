// The processor as this process uses it: kernels of one instruction set and the threads that run
// them. One may serve the router and the worker of a process, which take turns loop by loop.
#pragma once

#include <memory>
#include <string>

#include "conclave/base/result.hpp"
#include "conclave/base/thread_pool.hpp"
#include "conclave/kernels/matmul.hpp"

namespace conclave::engine {

/// Threads for `threads` = 0: the size of the process's CPU set.
unsigned available_threads();

/// Outlives everything that was given its compute().
class ComputeHost {
 public:
  /// `threads` 0: one for each processor this process may use. `isa`: "scalar", "avx2", "avx512",
  /// "amx"; empty: the best there is. Errors of kernels::choose_isa; kUnavailable: the system does
  /// not start so many threads.
  static base::Result<std::unique_ptr<ComputeHost>> create(unsigned threads,
                                                           const std::string& isa);

  [[nodiscard]] const kernels::Compute& compute() const { return compute_; }
  [[nodiscard]] unsigned threads() const { return pool_.threads(); }

 private:
  ComputeHost(unsigned threads, const kernels::KernelTable& kernels);

  base::ThreadPool pool_;
  kernels::Compute compute_;
};

}  // namespace conclave::engine
