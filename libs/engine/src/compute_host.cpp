#include "conclave/engine/compute_host.hpp"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace conclave::engine {

unsigned available_threads() {
  cpu_set_t set;  // room for 1024 processors: on larger machines the call fails
  CPU_ZERO(&set);
  const bool known = ::sched_getaffinity(0, sizeof set, &set) == 0;
  const unsigned count =
      known ? static_cast<unsigned>(CPU_COUNT(&set)) : std::thread::hardware_concurrency();
  return std::max(1u, count);
}

ComputeHost::ComputeHost(unsigned threads, const kernels::KernelTable& kernels)
    : pool_(threads), compute_{kernels, pool_} {}

base::Result<std::unique_ptr<ComputeHost>> ComputeHost::create(unsigned threads,
                                                               const std::string& isa) {
  CONCLAVE_TRY(const kernels::Isa chosen, kernels::choose_isa(isa));
  if (threads == 0) threads = available_threads();
  std::unique_ptr<ComputeHost> host(new ComputeHost(threads, kernels::kernel_table(chosen)));
  if (host->threads() < threads) {
    return base::fail(base::ErrorCode::kUnavailable,
                      "the system starts " + std::to_string(host->threads()) + " threads, not " +
                          std::to_string(threads));
  }
  return host;
}

}  // namespace conclave::engine
