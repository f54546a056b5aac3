// Which of an expert's workers to ask: the one that will have computed it first, as far as one can
// tell; of many, the better of two drawn at random, so that routers that know the same do not all
// run to the same worker (Mitzenmacher: two choices).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "conclave/dispatch/worker_health.hpp"

namespace conclave::dispatch {

/// One worker, as seen at this moment.
struct Candidate {
  Standing standing = Standing::kWell;
  std::size_t units_ahead = 0;  // outstanding, and what is meant for it already
  double us_per_unit = 0.0;     // 0: not known
  double overhead_us = 0.0;
  double reluctance = 1.0;
  bool used = false;  // it gets a call in this batch anyway
};

/// Microseconds until it would have computed `units` more.
double finish_us(const Candidate& candidate, std::size_t units);

/// One thread. Draws are a function of the seed and of how often it was asked.
class ReplicaChooser {
 public:
  /// Up to so many candidates all are looked at.
  static constexpr std::size_t kAllMax = 4;

  explicit ReplicaChooser(std::uint64_t seed) : state_(seed) {}

  /// The index of the one to ask. None of a worse standing than the best; of equals a worker that
  /// is used already, then the first. `candidates` must not be empty.
  std::size_t choose(std::span<const Candidate> candidates, std::size_t units);

 private:
  std::uint64_t next();

  std::uint64_t state_;
};

}  // namespace conclave::dispatch
