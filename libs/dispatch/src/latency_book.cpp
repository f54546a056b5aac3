#include "conclave/dispatch/latency_book.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace conclave::dispatch {

namespace {

// The first step is 2^13 ns, all before it is one.
constexpr int kFirstBits = 13;

}  // namespace

std::size_t LatencyBook::size_of(std::size_t units) {
  return std::min<std::size_t>(kSizes - 1, static_cast<std::size_t>(std::bit_width(units)));
}

// 1 + 4 * octave + the two bits behind the leading one.
std::size_t LatencyBook::step_of(Duration took) {
  const auto time = static_cast<std::uint64_t>(std::max<Duration::rep>(0, took.count()));
  if (time >> kFirstBits == 0) return 0;
  const int octave = static_cast<int>(std::bit_width(time)) - 1 - kFirstBits;
  const std::uint64_t quarter = time >> (octave + kFirstBits - 2) & 3;
  return std::min<std::size_t>(kSteps - 1, 1 + 4 * static_cast<std::size_t>(octave) + quarter);
}

LatencyBook::Duration LatencyBook::end_of(std::size_t step) {
  if (step == 0) return Duration(Duration::rep{1} << kFirstBits);
  const auto quarter = static_cast<Duration::rep>((step - 1) % 4);
  return Duration((5 + quarter) << (static_cast<int>((step - 1) / 4) + kFirstBits - 2));
}

void LatencyBook::add(std::size_t units, Duration took) {
  Histogram& histogram = by_size_[size_of(units)];
  ++histogram.counts[step_of(took)];
  if (++histogram.total < kWindow) return;
  histogram.total = 0;
  for (std::uint32_t& count : histogram.counts) {
    count /= 2;
    histogram.total += count;
  }
}

LatencyBook::Duration LatencyBook::quantile(const Histogram& histogram, double q) {
  const auto wanted = static_cast<std::uint32_t>(std::ceil(q * histogram.total));
  std::uint32_t seen = 0;
  for (std::size_t step = 0; step < kSteps; ++step) {
    seen += histogram.counts[step];
    if (seen >= wanted && seen > 0) return end_of(step);
  }
  return end_of(kSteps - 1);
}

std::optional<LatencyBook::Duration> LatencyBook::quantile(std::size_t units, double q) const {
  const std::size_t size = size_of(units);
  for (std::size_t larger = size; larger < kSizes; ++larger) {
    if (by_size_[larger].total >= kEnough) return quantile(by_size_[larger], q);
  }
  for (std::size_t smaller = size; smaller-- > 0;) {
    if (by_size_[smaller].total < kEnough) continue;
    return quantile(by_size_[smaller], q) * (std::size_t{1} << (size - smaller));
  }
  return std::nullopt;
}

}  // namespace conclave::dispatch
