// How long calls of some size took lately: quantiles for deadlines and hedges, from which a worker
// that has stopped can be told from one that has much to do.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace conclave::dispatch {

/// Histograms by size of call, both in steps that grow with what they count, so that it has one
/// size whatever it is told (7 KiB). One thread.
class LatencyBook {
 public:
  using Duration = std::chrono::nanoseconds;

  /// `units`: the call's cost, see units_of().
  void add(std::size_t units, Duration took);

  /// The time within which a share `q` (0 to 1) of the calls of about this size came back, at most
  /// a quarter too long; of the next larger size that is known well enough, or of the next smaller
  /// one, stretched by the difference. Nothing before kEnough calls of one size.
  [[nodiscard]] std::optional<Duration> quantile(std::size_t units, double q) const;

  /// Calls after which a 95th percentile says something.
  static constexpr std::uint32_t kEnough = 32;

 private:
  // Sizes double; times grow by a quarter, an eighth of an octave at the end of each: from 8 us to
  // two minutes.
  static constexpr std::size_t kSizes = 16;
  static constexpr std::size_t kSteps = 97;
  // Calls that count: older ones fade by half whenever there are so many.
  static constexpr std::uint32_t kWindow = 1024;

  struct Histogram {
    std::array<std::uint32_t, kSteps> counts{};
    std::uint32_t total = 0;
  };

  static std::size_t size_of(std::size_t units);
  static std::size_t step_of(Duration took);
  static Duration end_of(std::size_t step);
  static Duration quantile(const Histogram& histogram, double q);

  std::array<Histogram, kSizes> by_size_{};
};

}  // namespace conclave::dispatch
