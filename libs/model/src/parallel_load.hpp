// The loop that loads many parts over a thread pool: it stops at the first error and keeps it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <new>
#include <optional>

#include "conclave/base/result.hpp"
#include "conclave/base/thread_pool.hpp"
#include "conclave/model/experts.hpp"

namespace conclave::model {

/// load(i) -> base::Status for each i in [0, total), on any thread. kOverloaded: out of memory. The
/// pool is taken for as many parts as it has threads at a time, so that whoever computes on it
/// beside this gets a turn in between.
template <class Load>
base::Status load_parallel(base::ThreadPool& pool, std::size_t total, const Progress& progress,
                           Load load) {
  std::mutex mutex;  // guards `first_error`, `done` and calls of `progress`
  std::optional<base::Error> first_error;
  std::atomic<bool> failed{false};
  std::size_t done = 0;
  const auto load_one = [&](std::size_t i) {
    if (failed.load(std::memory_order_relaxed)) return;
    base::Status status;
    try {
      status = load(i);
    } catch (const std::bad_alloc&) {
      status = base::fail(base::ErrorCode::kOverloaded, "no memory left for the weights");
    }
    const std::lock_guard lock(mutex);
    if (!status) {
      if (!first_error) first_error = status.error();
      failed.store(true, std::memory_order_relaxed);
    } else if (progress) {
      progress(++done, total);
    }
  };
  for (std::size_t first = 0; first < total; first += pool.threads()) {
    pool.for_each(std::min<std::size_t>(pool.threads(), total - first),
                  [&](std::size_t i, unsigned) { load_one(first + i); });
  }
  if (first_error) return base::fail(*first_error);
  return {};
}

}  // namespace conclave::model
