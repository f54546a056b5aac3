// Rotary position embedding: the angles of a position and the rotation of a head.
// YaRN blends frequencies as ggml's rope_yarn does (arXiv 2309.00071, section 3.2).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "conclave/model/config.hpp"

namespace conclave::model {

/// Immutable; share it between threads.
class Rope {
 public:
  /// `factors` (dimensions / 2, or empty) divide the frequencies: the file's rope_freqs tensor.
  Rope(const RopeConfig& config, std::span<const float> factors);

  [[nodiscard]] std::size_t pairs() const { return frequencies_.size(); }

  /// cos and sin (pairs each) of a position. Computed in extended precision, so that the rounded
  /// result is the same with any math library.
  void angles(std::uint32_t position, float* cos, float* sin) const;

  /// Rotates the first 2 * pairs() values of one head in place.
  void rotate(float* head, const float* cos, const float* sin) const;

 private:
  RopeStyle style_;
  float magnitude_;
  std::vector<double> frequencies_;  // radians a position
};

}  // namespace conclave::model
