// What many measurements come to.
#pragma once

#include <span>
#include <vector>

namespace conclave::cli {

/// Of measurements that were repeated: the middle one, and how far they lie apart.
struct Spread {
  double median = 0.0;
  double least = 0.0;
  double most = 0.0;
};

/// All zero without values.
Spread spread_of(std::span<const double> values);

/// Of many single events, latencies say.
struct Distribution {
  double mean = 0.0;
  double p50 = 0.0;
  double p90 = 0.0;
  double p99 = 0.0;
  double most = 0.0;
};

/// All zero without values. O(n log n).
Distribution distribution_of(std::vector<double> values);

/// The value below which `share` [0, 1] of `sorted` lie, with a straight line between neighbours
/// (numpy's default, and so what vLLM's benchmark reports). At least one value, in rising order.
double quantile(std::span<const double> sorted, double share);

}  // namespace conclave::cli
