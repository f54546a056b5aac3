#include "conclave/model/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace conclave::model {
namespace {

// The pair whose wave turns `rotations` times over the original context.
double pair_with_rotations(const RopeConfig& config, double rotations) {
  const long double wavelength =
      config.original_context / (rotations * 2.0L * std::numbers::pi_v<long double>);
  const long double base = config.base;
  return static_cast<double>(config.dimensions * std::log(wavelength) / (2.0L * std::log(base)));
}

// 1 for fast pairs, which keep their frequency, 0 for slow ones, which are interpolated.
double kept_share(const RopeConfig& config, std::size_t pair) {
  const double low = std::max(0.0, std::floor(pair_with_rotations(config, config.beta_fast)));
  const double high =
      std::min(config.dimensions - 1.0, std::ceil(pair_with_rotations(config, config.beta_slow)));
  const double ramp = (static_cast<double>(pair) - low) / std::max(0.001, high - low);
  return 1.0 - std::clamp(ramp, 0.0, 1.0);
}

}  // namespace

Rope::Rope(const RopeConfig& config, std::span<const float> factors)
    : style_(config.style), magnitude_(config.magnitude) {
  for (std::size_t pair = 0; pair < config.dimensions / 2; ++pair) {
    const long double exponent = -2.0L * static_cast<long double>(pair) / config.dimensions;
    auto frequency = static_cast<double>(std::pow(static_cast<long double>(config.base), exponent));
    if (!factors.empty()) frequency /= double{factors[pair]};
    const double kept = config.yarn ? kept_share(config, pair) : 0.0;
    frequencies_.push_back(frequency * config.scale * (1.0 - kept) + frequency * kept);
  }
}

void Rope::angles(std::uint32_t position, float* cos, float* sin) const {
  for (std::size_t pair = 0; pair < frequencies_.size(); ++pair) {
    const long double angle = static_cast<long double>(position) * frequencies_[pair];
    cos[pair] = static_cast<float>(std::cos(angle)) * magnitude_;
    sin[pair] = static_cast<float>(std::sin(angle)) * magnitude_;
  }
}

// One plain loop for each layout, that the compiler can run on registers.
void Rope::rotate(float* head, const float* cos, const float* sin) const {
  const std::size_t n = frequencies_.size();
  if (style_ == RopeStyle::kNeox) {
    for (std::size_t pair = 0; pair < n; ++pair) {
      const float x = head[pair];
      const float y = head[n + pair];
      head[pair] = x * cos[pair] - y * sin[pair];
      head[n + pair] = x * sin[pair] + y * cos[pair];
    }
    return;
  }
  for (std::size_t pair = 0; pair < n; ++pair) {
    const float x = head[2 * pair];
    const float y = head[2 * pair + 1];
    head[2 * pair] = x * cos[pair] - y * sin[pair];
    head[2 * pair + 1] = x * sin[pair] + y * cos[pair];
  }
}

}  // namespace conclave::model
