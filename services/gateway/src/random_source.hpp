// Random numbers for ids and for the seeds of requests that name none: different, not secret.
#pragma once

#include <atomic>
#include <cstdint>

namespace conclave::gateway {

/// SplitMix64 (Steele, Lea, Flood 2014): no number comes twice within 2^64. Any thread.
class RandomSource {
 public:
  explicit RandomSource(std::uint64_t seed) : state_(seed) {}

  std::uint64_t operator()() {
    constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15;
    std::uint64_t z = state_.fetch_add(kGolden, std::memory_order_relaxed) + kGolden;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

 private:
  std::atomic<std::uint64_t> state_;
};

}  // namespace conclave::gateway
